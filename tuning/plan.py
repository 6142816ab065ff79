"""What a study runs next: uniform sampling, searched schedules, the best one's twins, and confirmations.

The twins are the best schedule's own clusters and pacing with the order reversed and with a random order. Random
order often does as well as a clever one (Wu et al. 2021, "When Do Curricula Work?"); then the gain comes from the
growing set and not from the order. Confirmations repeat the best schedules and uniform sampling on seeds that the
search never saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curriculum_ray.curriculum import CurriculumSchedule, RandomOrder, SortedOrder
from curriculum_ray.curriculum.order import random_ranking
from tuning.config import FRESH_SEEDS, StudyConfig
from tuning.records import DIRECTIONS

__all__ = ["Planned", "StudyPlan", "twins"]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial to run; `schedule` is None where the sampler is still to choose it."""

    key: str
    role: str
    control: str | None = None
    seed: int
    schedule: CurriculumSchedule | None = None
    origin: str | None = None
    """The key of the trial whose schedule this one varies or repeats."""


def twins(schedule: CurriculumSchedule, seed: int) -> dict[str, CurriculumSchedule]:
    """The schedule with its order reversed and with a random order of `seed`, by the name of the control.

    A schedule in random order has no reverse: its twins are the two directions. Any other one has none.
    """
    match schedule.order:
        case SortedOrder():
            return {
                "reversed": schedule.reversed_order(),
                "random": schedule.random_order(_shuffling(schedule, seed)),
            }
        case RandomOrder():
            ordered = SortedOrder(direction="easy_to_hard")
            forwards = schedule.model_copy(update={"order": ordered})
            return {"easy_to_hard": forwards, "hard_to_easy": forwards.reversed_order()}
        case _:
            return {}


def _shuffling(schedule: CurriculumSchedule, seed: int) -> int:
    """The first seed from `seed` on whose random order is not one of the two sorted ones, where there is such."""
    count = schedule.clusters.count
    ordered = tuple(range(count))
    seeds = range(seed, seed + 100) if count > 2 else ()
    return next((s for s in seeds if random_ranking(count, s) not in (ordered, ordered[::-1])), seed)


@dataclass
class StudyPlan:
    """Hands out the trials of a study in phases; `records` holds those that ended, by key."""

    config: StudyConfig
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def next(self) -> Planned | None:
        """The next trial to start; None when a running one must end first, or when `complete`."""
        for phase in (self._opening, self._twins, self._confirmations):
            planned = phase()
            for trial in planned:
                if trial.key not in self.records and trial.key not in self.running:
                    self.running.add(trial.key)
                    return trial
            if any(trial.key in self.running for trial in planned):
                return None
        return None

    @property
    def complete(self) -> bool:
        """Whether every trial of every phase has ended."""
        phases = (self._opening, self._twins, self._confirmations)
        return all(trial.key in self.records for phase in phases for trial in phase())

    @property
    def total(self) -> int:
        """How many trials there are in all: exact for the phases that are known, the most for those to come."""
        opening, twin, confirming = self._opening(), self._twins(), self._confirmations()
        opened = all(trial.key in self.records for trial in opening)
        paired = opened and all(trial.key in self.records for trial in twin)
        most = (1 + self.config.confirm_top) * self.config.confirm_seeds * bool(self.config.confirm_top)
        return len(opening) + (len(twin) if opened else 2) + (len(confirming) if paired else most)

    def ended(self, record: Mapping[str, Any]) -> None:
        """Take note of a trial that finished or failed."""
        self.running.discard(record["key"])
        self.records[record["key"]] = record

    def ranking(self) -> list[Mapping[str, Any]]:
        """Finished curricula (no repeats on other seeds, not uniform sampling), the best first."""
        metric = self.config.metric
        sign = 1 if DIRECTIONS[metric] == "min" else -1
        curricula = [
            record
            for record in self.records.values()
            if record["status"] == "finished"
            and record["role"] != "confirmation"
            and record["control"] != "uniform"
        ]
        return sorted(curricula, key=lambda record: (sign * record["metrics"][metric], record["key"]))

    def _opening(self) -> list[Planned]:
        seed = self.config.seed
        uniform = Planned(
            key="control-uniform",
            role="control",
            control="uniform",
            seed=seed,
            schedule=self.uniform_schedule(),
        )
        return [uniform] + [
            Planned(key=f"search-{index:03d}", role="searched", seed=seed)
            for index in range(self.config.trials)
        ]

    def uniform_schedule(self) -> CurriculumSchedule:
        """The control: the run's own base distribution, without a curriculum."""
        return CurriculumSchedule.uniform()

    def _twins(self) -> list[Planned]:
        best = next((record for record in self.ranking() if record["role"] == "searched"), None)
        if best is None:
            return []
        schedule = CurriculumSchedule.from_dict(best["schedule"], best["key"])
        known = {record["schedule_id"] for record in self.records.values() if record["role"] == "searched"}
        return [
            Planned(
                key=f"twin-{best['key']}-{name}",
                role="control",
                control=name,
                seed=self.config.seed,
                schedule=twin,
                origin=best["key"],
            )
            for name, twin in twins(schedule, self.config.seed).items()
            if twin.schedule_id not in known
        ]

    def _confirmations(self) -> list[Planned]:
        best = self.ranking()[: self.config.confirm_top]
        if not best:
            return []
        arms: list[tuple[str, str | None, CurriculumSchedule]] = [
            (record["key"], None, CurriculumSchedule.from_dict(record["schedule"], "confirmation"))
            for record in best
        ]
        arms.append(("control-uniform", "uniform", self.uniform_schedule()))
        return [
            Planned(
                key=f"confirm-{key}-seed{seed}",
                role="confirmation",
                control=control,
                seed=seed,
                schedule=schedule,
                origin=key,
            )
            for seed in range(FRESH_SEEDS, FRESH_SEEDS + self.config.confirm_seeds)
            for key, control, schedule in arms
        ]
