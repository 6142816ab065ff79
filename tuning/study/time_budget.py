"""A study's budget of time: a trial starts only if it, and all that has to come after it, can end in what is left.

What has to come after the search are the twins of the best schedule and the confirmations. How long they take is
estimated from the speed of the trials that have finished, so their share is known better with each.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tuning.evidence.keys import TrialKey
from tuning.evidence.records import Control, Role
from tuning.study.calibration import TrialSpeed, Work
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.cost import evaluations

__all__ = [
    "Fitting",
    "TimeBudget",
    "after_search",
    "bracket_work",
    "fit_into",
    "seconds_to_end",
    "speed_of",
    "study_seconds",
    "study_work",
    "trials_that_fit",
    "work_of",
]

_CAUTIOUS = 0.75
"""Of the trials that finished, this share was faster than the speed that is counted with."""
_LEAST_LEFT = 0.05
"""The share of a trial that is left at least until it has ended."""


def seconds_to_end(running: Sequence[float], phases: Sequence[Sequence[float]], slots: int) -> float:
    """Seconds until all trials have ended, if the next one always goes to the slot that is free first.

    running: seconds that each running trial has left; they belong to the first phase. phases: seconds of each trial; a
    phase begins when all before it have ended.
    """
    free = [*running, *[0.0] * max(0, slots - len(running))]
    heapq.heapify(free)
    for phase in phases:
        for seconds in phase:
            heapq.heapreplace(free, free[0] + seconds)
        free = [max(free)] * slots
    return max(free)


def work_of(
    config: StudyConfig, role: Role, control: Control | None = None, images: int | None = None
) -> Work:
    """What a trial of this role has to do; images: its budget, if it is not that of the study."""
    budget = config.run.total_images if images is None else images
    return Work(budget, evaluations(config, budget, role, control))


def bracket_work(config: StudyConfig, size: int) -> list[list[Work]]:
    """What `size` schedules that compete have to do, rung by rung."""
    budgets, survivors = config.halving.budgets(config.run.total_images), config.halving.survivors(size)
    *lower, _ = zip(budgets, survivors, strict=True)
    rungs = [[work_of(config, "rung", images=images)] * count for images, count in lower]
    return [*rungs, [work_of(config, "searched")] * survivors[-1]]


def after_search(config: StudyConfig, controls: Controls) -> list[list[Work]]:
    """The twins of the best schedule, and the confirmations on the least fresh seeds: those are never traded."""
    planned, (least, most) = config.phases(controls), config.least_and_most_seeds
    return [
        [work_of(config, "control")] * planned["twins of the best"],
        [work_of(config, "confirmation")] * (planned["confirmations"] // most * least),
    ]


def study_work(config: StudyConfig, controls: Controls, trials: int) -> list[list[Work]]:
    """A whole study with this number of schedules, phase by phase."""
    plain = [work_of(config, "control", "uniform"), *[work_of(config, "control")] * controls.rivals]
    size = config.halving.bracket(config.trials)
    opening: list[list[Work]] = []
    for start in range(0, trials, size):
        opening += bracket_work(config, min(size, trials - start))
    first, *rest = opening or [[]]
    return [plain + first, *rest, *after_search(config, controls)]


def study_seconds(
    config: StudyConfig, controls: Controls, trials: int, speed: TrialSpeed, slots: int
) -> float:
    """How long a whole study with this number of schedules takes; slots: trials at a time."""
    phases = [[speed.seconds(work) for work in phase] for phase in study_work(config, controls, trials)]
    return seconds_to_end([], phases, slots)


def _tried_together(config: StudyConfig) -> int:
    """Schedules that are tried together or not at all: a bracket where they compete in such, else one."""
    return config.halving.bracket(config.trials) if config.halving.rule == "compressed" else 1


def trials_that_fit(
    config: StudyConfig, controls: Controls, speed: TrialSpeed, slots: int, seconds: float
) -> int:
    """The most schedules, up to the study's, with which a whole study ends in `seconds`; 0 where none is tried.

    Where schedules compete in brackets, these are whole brackets.
    """
    size = _tried_together(config)
    low, high = 0, math.ceil(config.trials / size)
    while low < high:
        middle = (low + high + 1) // 2
        trials = min(config.trials, middle * size)
        fits = study_seconds(config, controls, trials, speed, slots) <= seconds
        low, high = (middle, high) if fits else (low, middle - 1)
    return min(config.trials, low * size)


@dataclass(frozen=True)
class Fitting:
    """What fits into a study's hours by a calibration."""

    hours: float
    """The budget."""
    trials: int
    """Schedules that fit, up to those that the study asks for; 0 where there is no time for one."""
    least: float
    """Hours that controls, one schedule (or a bracket of them), its twins and the confirmations take."""
    whole: float
    """Hours that the whole study takes."""

    def in_words(self, asked: int) -> str:
        """In words, for `plan`; asked: the study's number of schedules."""
        whole = f"all {asked} take {self.whole:.2g} hours"
        if not self.trials:
            return (
                f"{self.hours:g} hours are too short: controls, one schedule, its twins and the confirmations take "
                f"{self.least:.2g}; {whole}"
            )
        return (
            f"in {self.hours:g} hours: {self.trials} of {asked} schedules, beside controls, twins and confirmations; "
            f"{whole}"
        )


def fit_into(config: StudyConfig, controls: Controls, speed: TrialSpeed, slots: int) -> Fitting | None:
    """What fits into the hours of a study; None without a limit. slots: trials at a time."""
    if config.hours is None:
        return None
    least, whole = (
        study_seconds(config, controls, trials, speed, slots) / 3600
        for trials in (_tried_together(config), config.trials)
    )
    fitting = trials_that_fit(config, controls, speed, slots, config.hours * 3600)
    return Fitting(config.hours, fitting, least, whole)


def speed_of(
    images: int, seconds: float, images_per_second: Sequence[float], work: Work
) -> TrialSpeed | None:
    """The speed of a trial that was trained in one go; None where its log says nothing.

    seconds: from its start to its end. images_per_second: of its log lines, without evaluations.
    """
    rates = [rate for rate in images_per_second if rate > 0]
    if not rates:
        return None
    per_image = min(fmean(1 / rate for rate in rates), seconds / images)
    return TrialSpeed(per_image, (seconds - images * per_image) / work.evaluations)


class TimeBudget:
    """What is left of a study's time, and the trials that run in it."""

    def __init__(
        self,
        seconds_left: Callable[[], float],
        slots: int,
        measured: Sequence[TrialSpeed] = (),
        guess: TrialSpeed | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """slots: trials at a time. measured: by earlier starts. guess: a calibration, until a trial has finished."""
        self._seconds_left, self._slots, self._guess, self._now = seconds_left, slots, guess, now
        self._measured = list(measured)
        self._running: dict[TrialKey, tuple[Work, float]] = {}

    @property
    def is_measured(self) -> bool:
        """Whether a trial of the study has finished, so that its speed is no guess."""
        return bool(self._measured)

    @property
    def speed(self) -> TrialSpeed | None:
        """The speed that is counted with; None while nothing is known."""
        if not self._measured:
            return self._guess
        return TrialSpeed(
            _cautious([each.seconds_per_image for each in self._measured]),
            _cautious([each.seconds_per_evaluation for each in self._measured]),
        )

    def started(self, key: TrialKey, work: Work) -> None:
        """A trial starts."""
        self._running[key] = work, self._now()

    def ended(self, key: TrialKey, measured: TrialSpeed | None) -> None:
        """A trial ended; measured: its speed, if it finished."""
        self._running.pop(key, None)
        if measured is not None:
            self._measured.append(measured)

    def fits(self, phases: Sequence[Sequence[Work]]) -> bool:
        """Whether these trials, beside the running ones, end in the time that is left; True while no speed is known."""
        speed = self.speed
        if speed is None:
            return True
        now, running = self._now(), []
        for work, since in self._running.values():
            whole = speed.seconds(work)
            running.append(max(whole - (now - since), _LEAST_LEFT * whole))
        planned = [[speed.seconds(work) for work in phase] for phase in phases]
        return seconds_to_end(running, planned, self._slots) <= self._seconds_left()


def _cautious(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(_CAUTIOUS * len(values)) - 1]
