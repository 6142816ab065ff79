"""Searches that are played on a table instead of trained: the product's suggestions, answered by the nearest row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial
from search_table import Row
from table_world import RACE_SEED, SEARCH_SEED, Schedule, World

from curriculum_ray.runs.jobs import PreviewScore, Progress
from tuning.evidence.keys import TrialKey
from tuning.search.suggestion import suggest
from tuning.study.config import StudyConfig
from tuning.study.halving import AfterLastStage, Compressed, promoted
from tuning.study.pruning import Judge

__all__ = ["Tried", "play", "race", "race_on_the_go"]


@dataclass(frozen=True)
class Tried:
    """A schedule that a search tried at the full budget to its end, and the images of the search until then."""

    schedule: Schedule
    images: int


class _Search:
    """One search on a world: asks the product for suggestions, and keeps the history that it is shown."""

    def __init__(self, config: StudyConfig, world: World) -> None:
        self.config, self.world = config, world
        self.history: list[FrozenTrial] = []
        self.taken: set[int] = set()
        self.images = 0
        self.tried: list[Tried] = []

    @property
    def exhausted(self) -> bool:
        """Whether every schedule was tried."""
        return len(self.taken) == len(self.world.schedules)

    def ask(self) -> tuple[int, Schedule]:
        """The next schedule, which runs from now on, and its number."""
        number = len(self.history)
        asked = suggest(self.config, self.world.space, number, self.history)
        place = self.world.nearest(asked.params, self.taken)
        self.taken.add(place)
        schedule = self.world.schedules[place]
        self.history.append(_trial(schedule, TrialState.RUNNING, system=asked.system_attrs))
        return number, schedule

    def tell(
        self, number: int, schedule: Schedule, state: TrialState, scores: Mapping[int, float] | None = None
    ) -> None:
        """End a trial, or report its scores so far, by images."""
        known = self.history[number]
        value = schedule.fid() if state == TrialState.COMPLETE else None
        if value is not None and not np.isfinite(value):
            state, value = TrialState.FAIL, None
        self.history[number] = _trial(schedule, state, value, scores, known.system_attrs)

    def run_in_full(self, number: int, schedule: Schedule, scores: Mapping[int, float] | None = None) -> None:
        """Run a trial at the full budget to its end."""
        self.images += self.config.run.total_images
        self.tell(number, schedule, TrialState.COMPLETE, scores)
        self.tried.append(Tried(schedule, self.images))


def _trial(
    schedule: Schedule,
    state: TrialState,
    value: float | None = None,
    scores: Mapping[int, float] | None = None,
    system: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    return create_trial(
        state=state,
        params=dict(schedule.params),
        distributions=dict(schedule.distributions),
        value=value,
        intermediate_values=dict(scores or {}),
        system_attrs=dict(system or {}),
    )


def play(config: StudyConfig, world: World, images: int) -> list[Tried]:
    """The schedules that a search tries in full within so many images, in their order; the answer is the best one."""
    search = _Search(config, world)
    step: Callable[[_Search, int], bool]
    match config.halving:
        case Compressed() as compressed:
            step = lambda search, left: _bracket(search, compressed, left)  # noqa: E731
        case AfterLastStage() as after:
            judge = Judge(after, config.metric, config.run.total_images, lower_is_better=True)
            step = lambda search, left: _looked_at(search, judge, left)  # noqa: E731
        case _:
            step = _full
    while not search.exhausted and step(search, images - search.images):
        pass
    return search.tried


def _full(search: _Search, left: int) -> bool:
    if left < search.config.run.total_images:
        return False
    search.run_in_full(*search.ask())
    return True


def _looked_at(search: _Search, judge: Judge, left: int) -> bool:
    """Run a trial until the judge stops it, which takes effect at the log line after."""
    if left < search.config.run.total_images:
        return False
    number, schedule = search.ask()
    row, stop = schedule.full[SEARCH_SEED], False
    looks: dict[int, float] = {}
    for images, stage, fid in row.log:
        if stop and fid is None:
            search.images += images
            search.tell(number, schedule, TrialState.PRUNED, looks)
            return True
        if fid is not None and images < row.images:
            looks[images] = fid
        stop = judge(TrialKey.search(number), _progress(row, images, stage, fid)) is not None or stop
    search.run_in_full(number, schedule, looks)
    return True


def _progress(row: Row, images: int, stage: int, fid: float | None) -> Progress:
    assert row.num_stages is not None
    return Progress(
        images=images,
        loss=0.0,
        stage=stage,
        num_stages=row.num_stages,
        images_per_second=0.0,
        total_images=row.images,
        snapshot={},
        preview=None if fid is None else PreviewScore(images=images, metrics={"fid": fid}),
    )


def _bracket(search: _Search, rule: Compressed, left: int) -> bool:
    """Run as many schedules at the smaller budget as one is promoted of, and that one at the full budget."""
    (low, full), size = rule.budgets(search.config.run.total_images), rule.bracket(search.config.trials)
    if left < size * low + full or len(search.taken) + size > len(search.world.schedules):
        return False
    scores: dict[str, float] = {}
    asked: dict[str, tuple[int, Schedule]] = {}
    for _ in range(size):
        number, schedule = search.ask()
        key = str(TrialKey.search(number))
        search.images += low
        assert schedule.low is not None
        asked[key] = number, schedule
        if schedule.low.failure is None:
            scores[key] = schedule.low.metrics["fid"]
            search.tell(number, schedule, TrialState.RUNNING, {low: scores[key]})
    kept = promoted(scores, 1)
    for key, (number, schedule) in asked.items():
        if key not in kept:
            state = TrialState.PRUNED if key in scores else TrialState.FAIL
            search.tell(number, schedule, state, {low: scores[key]} if key in scores else None)
    for key in kept:
        search.run_in_full(*asked[key], {low: scores[key]})
    return True


def race(tried: Sequence[Tried], images: int, size: int, full: int) -> Schedule | None:
    """The answer where the best `size` of a search get the second seed, and the best mean of both wins.

    They are run at the end, and so much of the search is left out that all of it takes `images`. None where that
    leaves fewer than `size` schedules.
    """
    searched = [each.schedule for each in tried if each.images + size * full <= images]
    if len(searched) < size:
        return None
    best = sorted(searched, key=Schedule.fid)[:size]
    return min(best, key=lambda each: each.mean((SEARCH_SEED, RACE_SEED)))


def race_on_the_go(tried: Sequence[Tried], images: int, full: int) -> Schedule | None:
    """The answer where each schedule that beats the incumbent on the first seed gets the second, at once.

    It is the next incumbent if its mean of both is better too; after SMAC's intensification (Hutter et al. 2011) with
    two seeds at most. The search goes on with the first seed's scores, and stops where the images are spent.
    """
    incumbent: Schedule | None = None
    raced = 0
    for each in tried:
        if each.images + raced * full > images:
            break
        if incumbent is not None and each.schedule.fid() >= incumbent.fid():
            continue
        if each.images + (raced + 1) * full > images:
            break
        raced += 1
        both = (SEARCH_SEED, RACE_SEED)
        if incumbent is None or each.schedule.mean(both) < incumbent.mean(both):
            incumbent = each.schedule
    return incumbent
