"""The trials of a study in order: uniform sampling, rivals, searched schedules, twins of the best, and confirmations.

A study of named arms has confirmations only: of all its arms and uniform sampling.

Rivals change one setting and have no curriculum, e.g. another weighting of the loss. Confirmations repeat the best
schedules, the best rival and uniform sampling on seeds that the search never saw: the least number of seeds, then one
seed of all arms after another until every answer stands (see `settled`), the most are run, or those still allowed would
hardly settle one (see `given_up`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from curriculum_ray.curriculum import CurriculumSchedule, default_base
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import settled
from tuning.evidence.in_turn import answers_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import Control, TrialRecord
from tuning.study.best_curricula import asked_about, best_curricula
from tuning.study.brackets import rungs
from tuning.study.calibration import Work
from tuning.study.config import FRESH_SEEDS, StudyConfig
from tuning.study.controls import Controls
from tuning.study.giving_up import given_up
from tuning.study.named_arms import named_arm
from tuning.study.overlay import over_plain
from tuning.study.time_budget import TimeBudget, after_search, bracket_work, work_of
from tuning.study.trial_spec import TrialSpec
from tuning.study.twins import twin_trials

__all__ = ["StudyPlan", "plain_schedule"]


def plain_schedule(config: StudyConfig) -> CurriculumSchedule:
    """The schedule of a study's uniform sampling: no curriculum, and the process's own distribution of noise levels."""
    return CurriculumSchedule(base=default_base(config.run.process.kind))


@dataclass
class StudyPlan:
    """Hands out the trials of a study in steps; `records` holds those that ended, by key.

    A step is a list of trials that may run at the same time. The next step is made when all of its trials have ended,
    so the cost of planning a trial does not grow with their number.
    """

    config: StudyConfig
    records: dict[TrialKey, TrialRecord] = field(default_factory=dict)
    rivals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Names and dotted keys of the one-line rivals."""
    plain_twin: bool = False
    """Whether the best schedule may have a twin without a curriculum, see `Controls`."""
    complete: bool = field(default=False, init=False)
    """Whether every trial of every step has ended."""
    eliminated: set[TrialKey] = field(default_factory=set, init=False)
    """Searched schedules, by Optuna's key, that were dropped at a smaller budget: they get no run at the full one."""
    time: TimeBudget | None = None
    """The time that is left, if it is limited."""
    closed: set[str] = field(default_factory=set)
    """Phases of which no further trial starts, because there is no time for one."""
    begun: Collection[TrialKey] = ()
    """Trials that an earlier start began and that have not ended: they run whatever time is left."""
    left_out: set[TrialKey] = field(default_factory=set, init=False)
    """Trials that there was no time for."""

    def __post_init__(self) -> None:
        self._plain = plain_schedule(self.config)
        self._beside = Controls(len(self.rivals), self.plain_twin)
        self._waiting: deque[TrialSpec] = deque()
        self._left: set[TrialKey] = set()  # keys of this step's trials that have not ended
        self._known: Counter[str] = Counter()  # phase -> trials in the steps so far
        # Images by which trials at smaller budgets fall short: of those in the steps so far, and at most of later ones.
        self._spared = 0
        self._spared_later = self.config.halving.spared(self.config.trials, self.config.run.total_images)
        self._phase = ""
        self._seeds = 0  # fresh seeds in the steps so far
        self._sure: set[TrialKey] = set()  # keys of trials that run whatever time is left
        self._steps = self._all_steps()
        self._advance()

    def next(self) -> TrialSpec | None:
        """The next trial to start; None when a running one must end first, or when `complete`.

        Trials that there is no time for are left out: of the search one by one or, where they compete, all that do; of
        the confirmations whole seeds, so that arms stay paired; and with one, all that come after it in its phase.
        """
        while self._waiting:
            first = self._waiting[0]
            if self.time is None or first.key in self._sure:
                return self._waiting.popleft()
            group = [trial for trial in self._waiting if self._together(trial, first)]
            if self.time.fits(self._with_all_after(group)):
                self._sure |= {trial.key for trial in group}
            elif not self.time.is_measured and len(self._left) > len(self._waiting):
                return None  # A trial that runs will tell more than the guess does.
            else:
                self.closed.add(self._phase)
                self._leave_out()
                self._advance()
        return None

    def ended(self, record: TrialRecord) -> None:
        """Record a trial that ended."""
        self.records[record.key] = record
        self._left.discard(record.key)
        self._advance()

    @property
    def total(self) -> int:
        """Total number of trials: exact for known phases, the maximum for later ones."""
        most = self.config.phases(self._beside)
        first = most["controls"] + most["smaller budgets"] + most["searched"]
        known = self._known
        if self._phase == "opening":
            opening = max(first - len(self.left_out), known["opening"])
            return opening + most["twins of the best"] + most["confirmations"]
        confirming = most["confirmations"]
        if self.complete or "confirmations" in self.closed:
            confirming = known["confirmations"]
        elif self._phase == "confirmations":
            confirming = known["confirmations"] // self._seeds * self.config.least_and_most_seeds[1]
        return known["opening"] + known["twins"] + confirming

    @property
    def total_images(self) -> int:
        """The budgets of these trials together."""
        later = self._spared_later if self._phase == "opening" else 0
        return self.total * self.config.run.total_images - self._spared - later

    def _short(self, trials: Iterable[TrialSpec]) -> int:
        """Images by which the budgets of these trials fall short of the study's."""
        full = self.config.run.total_images
        return sum(full - trial.images for trial in trials if trial.images is not None)

    def _advance(self) -> None:
        """Go on to the next step with a trial that has not ended, if this one has none."""
        while not self._left:
            step = next(self._steps, None)
            if step is None:
                self.complete = True
                return
            self._phase, planned = step
            self._known[self._phase] += len(planned)
            self._spared += self._short(planned)
            self._spared_later -= self._short(planned)
            self._waiting = deque(trial for trial in planned if trial.key not in self.records)
            self._left = {trial.key for trial in self._waiting}
            self._sure |= {trial.key for trial in planned if self._is_sure(trial, planned)}
            if self._phase in self.closed:
                self._leave_out()

    def _leave_out(self) -> None:
        """Leave out the trials of this step that wait and are not sure to run."""
        left_out = [trial for trial in self._waiting if trial.key not in self._sure]
        out = {trial.key for trial in left_out}
        self.left_out |= out
        self._known[self._phase] -= len(out)
        self._spared -= self._short(left_out)
        self._waiting = deque(trial for trial in self._waiting if trial.key not in out)
        self._left -= out

    def _is_sure(self, trial: TrialSpec, planned: list[TrialSpec]) -> bool:
        """Whether a trial runs whatever time is left: a control, one that began, or one that belongs to such."""
        # A control, or a later rung of a bracket: the schedules of its first one are yet to be chosen.
        if self._phase == "opening" and trial.schedule is not None:
            return True
        return any(self._has_begun(other) for other in planned if self._together(other, trial))

    def _has_begun(self, trial: TrialSpec) -> bool:
        """Whether a trial ended, or ran when an earlier start was interrupted."""
        return trial.key in self.records or trial.key in self.begun

    def _together(self, trial: TrialSpec, other: TrialSpec) -> bool:
        """Whether two trials of a step both run or both do not."""
        if self._phase == "confirmations":
            return trial.seed == other.seed
        return self._phase == "twins" or trial.role == other.role == "rung" or trial.key == other.key

    def _with_all_after(self, group: list[TrialSpec]) -> list[list[Work]]:
        """What these trials have to do, and what must come after them, phase by phase."""
        twins, confirmations = after_search(self.config, self._beside)
        # Those of uniform sampling are for every study; another best schedule needs its own.
        fresh = range(FRESH_SEEDS, FRESH_SEEDS + self.config.least_and_most_seeds[0])
        ended = sum(TrialKey.uniform().confirmation(seed) in self.records for seed in fresh)
        after = [twins, confirmations[ended:]]
        if self._phase == "opening":
            return [*bracket_work(self.config, len(group)), *after]
        own = [work_of(self.config, trial.role, trial.control, trial.images) for trial in group]
        return [own, *after[1:]] if self._phase == "twins" else [own]

    def _all_steps(self) -> Iterator[tuple[str, list[TrialSpec]]]:
        """Phases and trials of the steps; the next one may be taken when all before it have ended."""
        if self.config.arms:
            yield from self._seed_by_seed(self._named_arms)
            return
        controls = self._controls()
        for searched in rungs(self.config, self.records, self.eliminated):
            yield "opening", controls + searched
            controls = []
        yield "twins", self._twins()
        if best := best_curricula(self.config, self.ranking):
            yield from self._seed_by_seed(partial(self._confirmations, best, self.ranking.rivals[:1]))

    def _seed_by_seed(self, arms: Callable[[int], list[TrialSpec]]) -> Iterator[tuple[str, list[TrialSpec]]]:
        """Confirmations of the `arms` of a seed: the least number of seeds, then one more until all answers stand.

        A seed that an earlier start began is run whole, as it would have been without the interruption.
        """
        least, most = self.config.least_and_most_seeds
        while self._seeds < most:
            planned = arms(FRESH_SEEDS + self._seeds)
            begun = any(self._has_begun(trial) for trial in planned if trial.control is None)
            if self._seeds >= least and not begun and not self._goes_on():
                return
            further = range(self._seeds + 1, least)
            self._seeds = max(least, self._seeds + 1)
            yield (
                "confirmations",
                [*planned, *(each for seed in further for each in arms(FRESH_SEEDS + seed))],
            )

    def _goes_on(self) -> bool:
        """Whether a further fresh seed is worth its trials."""
        ranking, names = self.ranking, list(self.config.arms)
        if names:
            return not answers_of(ranking, names).settled
        return (
            not settled(ranking, asked_about(self.config, ranking)) and given_up(self.config, ranking) is None
        )

    @property
    def ranking(self) -> Ranking:
        """The ranking of the trials that have ended so far."""
        return Ranking.of(self.records.values(), self.config.metric, self.config.margin)

    def _controls(self) -> list[TrialSpec]:
        uniform = TrialSpec(
            key=TrialKey.uniform(),
            role="control",
            control="uniform",
            seed=self.config.seed,
            schedule=self._plain,
        )
        return [uniform, *(self._rival(name, keys) for name, keys in self.rivals.items())]

    def _rival(self, name: str, keys: Mapping[str, Any]) -> TrialSpec:
        schedule, settings = over_plain(keys, self._plain, f"rivals.{name}")
        return TrialSpec(
            key=TrialKey.rival(name),
            role="control",
            control="rival",
            rival=name,
            seed=self.config.seed,
            schedule=schedule,
            settings=settings,
        )

    def _twins(self) -> list[TrialSpec]:
        searched, metric = self.ranking.searched, self.config.metric
        # A trial that failed or was stopped says nothing about its arm.
        known = {
            record.arm_id
            for record in self.records.values()
            if record.role == "searched" and record.measured(metric)
        }
        return twin_trials(searched[0], known, self.config.seed, self._plain) if searched else []

    def _confirmations(
        self, best: Sequence[TrialRecord], rivals: Sequence[TrialRecord], seed: int
    ) -> list[TrialSpec]:
        """All arms on one fresh seed."""
        again = [_again(record, seed) for record in best]
        return [*again, *(_again(rival, seed, "rival") for rival in rivals), self._uniform_again(seed)]

    def _named_arms(self, seed: int) -> list[TrialSpec]:
        """The same in a study of named arms."""
        arms = [named_arm(name, keys, self._plain, seed) for name, keys in self.config.arms.items()]
        return [*arms, self._uniform_again(seed)]

    def _uniform_again(self, seed: int) -> TrialSpec:
        return TrialSpec(
            key=TrialKey.uniform().confirmation(seed),
            role="confirmation",
            control="uniform",
            seed=seed,
            schedule=self._plain,
            origin=TrialKey.uniform(),
        )


def _again(record: TrialRecord, seed: int, control: Control | None = None) -> TrialSpec:
    """The trial that repeats the arm of `record` on a fresh seed; a twin is confirmed as a schedule."""
    return TrialSpec(
        key=record.key.confirmation(seed),
        role="confirmation",
        control=control,
        seed=seed,
        schedule=record.drawn_by,
        settings=record.settings,
        rival=record.rival,
        origin=record.key,
    )
