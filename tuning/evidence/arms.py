"""Ranks the trials of a study: by arm for its answer, and by run for its next steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import MARGIN, direction
from tuning.evidence.records import Control, TrialRecord
from tuning.evidence.short_names import UNIFORM

__all__ = ["Arm", "Ranking", "paired_by_seed", "side_by_side"]


@dataclass
class Arm:
    """All finished runs that train alike except for the seed."""

    arm_id: str
    name: str
    """Its short name, which no other arm of the study has; "uniform" for uniform sampling."""
    description: str
    """The arm in words."""
    control: Control | None
    searched: list[TrialRecord] = field(default_factory=list)
    """Runs of the search, including controls."""
    confirmed: list[TrialRecord] = field(default_factory=list)
    """Runs on fresh seeds."""

    def search_value(self, metric: str) -> float | None:
        """The mean over the search's runs."""
        return _mean(self.searched, metric)

    def confirmed_value(self, metric: str) -> float | None:
        """The mean over the fresh seeds."""
        return _mean(self.confirmed, metric)

    def by_seed(self, metric: str) -> dict[int, float]:
        """The metric of each fresh seed."""
        return _by_seed(self.confirmed, metric)

    @property
    def records(self) -> list[TrialRecord]:
        """All runs, those of the search first."""
        return self.searched + self.confirmed

    @property
    def stages(self) -> str:
        """Stages walked out of those asked for, the fewest among its runs: "8/8"; a dash where not recorded."""
        runs = [record for record in self.records if record.stages_asked]
        if not runs:
            return "–"
        least = min(runs, key=lambda record: (record.stages_walked or 0) / (record.stages_asked or 1))
        return least.walked or "–"

    @property
    def is_uniform(self) -> bool:
        """Whether this is the control without a curriculum."""
        return self.control == "uniform"

    @property
    def is_rival(self) -> bool:
        """Whether this is a one-line rival: no curriculum, but e.g. another weighting of the loss."""
        return self.control == "rival"

    @property
    def has_curriculum(self) -> bool:
        """Whether clusters join in an order, by its settings; never so of uniform sampling and of rivals."""
        return not self.is_uniform and not self.is_rival and self.records[0].has_curriculum


@dataclass(frozen=True)
class Ranking:
    """The finished trials of a study, the best first by `metric`; ConfigError for an unknown metric, and, once the arms
    are asked for, for records of several protocols, whose numbers are not comparable.

    `arms`, and the picks from them, are for the study's answer: arms with fresh seeds come first, by the mean over
    these, since the runs of a search flatter what it chose. `curricula`, `searched` and `rivals` are single runs of the
    search, for its next steps. None of them holds runs at a smaller budget or without a finite metric.
    """

    metric: str
    records: tuple[TrialRecord, ...]
    """All trials that ended, however they did."""
    margin: float = MARGIN
    """The margin within which two arms are equal, as a share of uniform sampling's metric."""

    @classmethod
    def of(cls, records: Iterable[TrialRecord], metric: str, margin: float = MARGIN) -> Ranking:
        """Rank the trials of a study."""
        direction(metric)
        return cls(metric, tuple(records), margin)

    @cached_property
    def arms(self) -> list[Arm]:
        """The arms, the best first."""
        result: dict[str, Arm] = {}
        plain = {record.arm_id for record in self._measured if record.control == "uniform"}
        for record in self._measured:
            # A searched schedule with the draws of uniform sampling is uniform sampling.
            uniform = record.arm_id in plain
            key = "uniform" if uniform else record.arm_id
            if key not in result:
                names = (UNIFORM, "uniform sampling") if uniform else (record.arm, record.describe())
                result[key] = Arm(record.arm_id, *names, "uniform" if uniform else record.control)
            arm = result[key]
            arm.control = arm.control or record.control
            (arm.confirmed if record.role == "confirmation" else arm.searched).append(record)
        return sorted(result.values(), key=self._place)

    @property
    def tried(self) -> list[Arm]:
        """The arms besides uniform sampling and rivals, the best first: schedules of the search, or named arms."""
        return [arm for arm in self.arms if not arm.is_uniform and not arm.is_rival]

    @cached_property
    def contenders(self) -> list[Arm]:
        """The arms that the study may stand for, the best first: those with a curriculum.

        Where no arm has one, e.g. among named arms that differ in their weighting, all that were tried.
        """
        return [arm for arm in self.tried if arm.has_curriculum] or self.tried

    @property
    def best(self) -> Arm | None:
        """The best of the contenders."""
        return next(iter(self.contenders), None)

    @cached_property
    def noun(self) -> str:
        """What the arms that were tried are: an "arm" where the study names them, else a "schedule"."""
        return "arm" if any(record.key.named for record in self.records) else "schedule"

    @property
    def best_noun(self) -> str:
        """What `best` is: a "curriculum" or an "arm" where the study names its arms, else a "schedule"."""
        with_one = self.best is not None and self.best.has_curriculum
        return "curriculum" if self.noun == "arm" and with_one else self.noun

    @cached_property
    def uniform(self) -> Arm | None:
        """Uniform sampling."""
        return next((arm for arm in self.arms if arm.is_uniform), None)

    @cached_property
    def rival(self) -> Arm | None:
        """The best rival with fresh seeds."""
        return next((arm for arm in self.arms if arm.is_rival and arm.confirmed), None)

    @property
    def confirmed(self) -> list[Arm]:
        """The arms with fresh seeds."""
        return [arm for arm in self.arms if arm.confirmed]

    def arm(self, arm_id: str) -> Arm:
        """The arm of this id."""
        return next(arm for arm in self.arms if arm.arm_id == arm_id)

    @cached_property
    def failed(self) -> list[TrialRecord]:
        """The runs on fresh seeds that failed, or finished without a finite metric."""
        return [
            record
            for record in self.records
            if record.role == "confirmation" and not record.measured(self.metric)
        ]

    def failed_seeds(self, arm: Arm) -> set[int]:
        """The fresh seeds on which the arm's run is among `failed`."""
        return {
            record.seed
            for record in self.failed
            if (record.control == "uniform" if arm.is_uniform else record.arm_id == arm.arm_id)
        }

    def failed_beside(self, arm: Arm, other: Arm) -> set[int]:
        """The fresh seeds on which the arm's run failed and the other's finished."""
        return self.failed_seeds(arm) & other.by_seed(self.metric).keys()

    @cached_property
    def curricula(self) -> list[TrialRecord]:
        """The runs of the search of all contenders, including twins."""
        return self._runs(record for arm in self.contenders for record in arm.records)

    @property
    def searched(self) -> list[TrialRecord]:
        """The runs of searched schedules."""
        return [record for record in self.curricula if record.role == "searched"]

    @property
    def rivals(self) -> list[TrialRecord]:
        """The runs of one-line rivals in the search."""
        return self._runs(record for record in self._measured if record.control == "rival")

    @property
    def uniform_run(self) -> TrialRecord | None:
        """Uniform sampling's run of the search, whether or not it finished."""
        return next((record for record in self.records if record.key == TrialKey.uniform()), None)

    @cached_property
    def _measured(self) -> list[TrialRecord]:
        found = [
            record
            for record in self.records
            # Runs at a smaller budget are not comparable with those at the full one.
            if record.role != "rung" and record.measured(self.metric)
        ]
        _check_one_protocol(found)
        return found

    @property
    def _sign(self) -> int:
        return 1 if direction(self.metric) == "min" else -1

    def _runs(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """The runs of the search among `records`, the best first."""
        found = [record for record in records if record.role != "confirmation"]
        return sorted(found, key=lambda record: (self._sign * record.metrics[self.metric], record.key))

    def _place(self, arm: Arm) -> tuple[bool, float, int]:
        confirmed = arm.confirmed_value(self.metric)
        value = arm.search_value(self.metric) if confirmed is None else confirmed
        assert value is not None
        return confirmed is None, self._sign * value, min(record.images for record in arm.records)


def side_by_side(arm: Arm, uniform: Arm | None, metric: str) -> tuple[float, float | None, int]:
    """Return the means of the arm and of uniform sampling over `paired_by_seed`, and the number of seeds of the first.

    The second is None without such runs of uniform sampling.
    """
    ours, theirs = paired_by_seed(arm, uniform, metric)
    return fmean(ours.values()), fmean(theirs.values()) if theirs else None, len(ours)


def paired_by_seed(arm: Arm, uniform: Arm | None, metric: str) -> tuple[dict[int, float], dict[int, float]]:
    """Return the metric of the arm and of uniform sampling by seed.

    Both are of fresh seeds if the arm has them, else of the search's; of the seeds that both have. Without any, the
    first has all of its own and the second is empty.
    """
    ours = _by_seed(arm.confirmed or arm.searched, metric)
    theirs = (
        {} if uniform is None else _by_seed(uniform.confirmed if arm.confirmed else uniform.searched, metric)
    )
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return ours, {}
    return {seed: ours[seed] for seed in shared}, {seed: theirs[seed] for seed in shared}


def _check_one_protocol(records: Sequence[TrialRecord]) -> None:
    first: dict[str | None, TrialRecord] = {}
    for record in records:
        first.setdefault(record.fingerprint, record)
    if len(first) > 1:
        each = ", ".join(f"{shown(name)} (e.g. trial {record.key})" for name, record in first.items())
        raise ConfigError(f"trials of one table must have one fingerprint, but have {len(first)}: {each}")


def _by_seed(records: Sequence[TrialRecord], metric: str) -> dict[int, float]:
    return {record.seed: record.metrics[metric] for record in records}


def _mean(records: Sequence[TrialRecord], metric: str) -> float | None:
    return fmean(record.metrics[metric] for record in records) if records else None
