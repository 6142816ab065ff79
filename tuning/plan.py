"""What a study runs next: uniform sampling, rivals, searched schedules, the best one's twins, and confirmations.

The twins are the best schedule's own clusters and pacing with the order reversed and with a random order. Random
order often does as well as a clever one (Wu et al. 2021, "When Do Curricula Work?"); then the gain comes from the
growing set and not from the order. Rivals change one line and have no curriculum, e.g. another weighting of the loss.
Confirmations repeat the best schedules, the best rival and uniform sampling on seeds that the search never saw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from curriculum_ray.curriculum import CurriculumSchedule, RandomOrder, SortedOrder
from curriculum_ray.curriculum.order import random_ranking
from tuning.config import FRESH_SEEDS, StudyConfig
from tuning.fidelity import promoted
from tuning.records import DIRECTIONS
from tuning.space import lay_over

__all__ = ["Planned", "StudyPlan", "twins"]


_PLAIN = ", no curriculum"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial to run; `schedule` is None where the sampler is still to choose it."""

    key: str
    role: str
    control: str | None = None
    seed: int
    schedule: CurriculumSchedule | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys beside the schedule that make this arm what it is, e.g. {"weighting.kind": "min_snr"}."""
    rival: str | None = None
    """The rival's name, for a trial of one."""
    images: int | None = None
    """The budget where it is not the study's own."""
    optuna: str | None = None
    """The key by which Optuna knows a searched schedule: that of its run at the full budget."""
    origin: str | None = None
    """The key of the trial whose schedule this one varies or repeats."""

    def describe(self, schedule: CurriculumSchedule) -> str | None:
        """The arm in words where its schedule alone does not say it."""
        if self.rival is not None:
            return f"{self.rival}{_PLAIN}"
        if not self.settings:
            return None
        words = [f"{key.removesuffix('.kind')} {_short(value)}" for key, value in self.settings.items()]
        return ", ".join([schedule.describe(), *words])

    def arm_id(self, schedule: CurriculumSchedule) -> str:
        """Equal for arms with equal schedules and settings."""
        if not self.settings:
            return schedule.schedule_id
        text = json.dumps(dict(self.settings), sort_keys=True)
        return f"{schedule.schedule_id}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
    rivals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Names and dotted keys of the one-line rivals."""

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
        most = self.config.phases(len(self.rivals))
        first = most["controls"] + most["smaller budgets"] + most["searched"]
        return (
            max(first, len(opening))
            + (len(twin) if opened else most["twins of the best"])
            + (len(confirming) if paired else most["confirmations"])
        )

    def ended(self, record: Mapping[str, Any]) -> None:
        """Take note of a trial that finished or failed."""
        self.running.discard(record["key"])
        self.records[record["key"]] = record

    def ranking(self) -> list[Mapping[str, Any]]:
        """Finished curricula at the full budget (no repeats on other seeds, no controls without a curriculum)."""
        return self._ranked(
            record
            for record in self.records.values()
            if record["role"] not in ("confirmation", "rung")
            and record["control"] not in ("uniform", "rival")
        )

    def best_rival(self) -> Mapping[str, Any] | None:
        """The best finished rival of the search."""
        rivals = (record for record in self.records.values() if record["control"] == "rival")
        return next(iter(self._ranked(r for r in rivals if r["role"] == "control")), None)

    def _ranked(self, records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The finished ones, the best first."""
        metric = self.config.metric
        sign = 1 if DIRECTIONS[metric] == "min" else -1
        finished = (record for record in records if record["status"] == "finished")
        return sorted(finished, key=lambda record: (sign * record["metrics"][metric], record["key"]))

    def _opening(self) -> list[Planned]:
        seed = self.config.seed
        uniform = Planned(
            key="control-uniform",
            role="control",
            control="uniform",
            seed=seed,
            schedule=self.uniform_schedule(),
        )
        rivals = [self._rival(name, keys) for name, keys in self.rivals.items()]
        return [uniform, *rivals, *self._searched()]

    def _rival(self, name: str, keys: Mapping[str, Any]) -> Planned:
        plain = {"schedule": self.uniform_schedule().model_dump(mode="json")}
        schedule = lay_over(plain, keys, f"rivals.{name}")["schedule"]
        return Planned(
            key=f"rival-{name}",
            role="control",
            control="rival",
            rival=name,
            seed=self.config.seed,
            schedule=CurriculumSchedule.from_dict(schedule, f"rivals.{name}"),
            settings={key: value for key, value in keys.items() if not key.startswith("schedule.")},
        )

    def _searched(self) -> list[Planned]:
        """Searched trials as far as they are known: a rung follows when the one below it has ended."""
        fidelity, trials = self.config.fidelity, self.config.trials
        size, result = fidelity.bracket(trials), []
        for start in range(0, trials, size):
            for rung in self._bracket(list(range(start, min(start + size, trials)))):
                result += rung
                if any(trial.key not in self.records for trial in rung) and fidelity.rule != "none":
                    return result
        return result

    def _bracket(self, indices: list[int]) -> Iterator[list[Planned]]:
        """The rungs of one bracket, each once the one below it has ended."""
        fidelity = self.config.fidelity
        budgets, survivors = fidelity.budgets(self.config.run.total_images), fidelity.survivors(len(indices))
        below: list[Planned] = []
        for rung, images in enumerate(budgets):
            top = rung == len(budgets) - 1
            if below:
                scores = {
                    trial.optuna: self.records[trial.key]["metrics"][self.config.metric]
                    for trial in below
                    if trial.optuna is not None and self.records[trial.key]["status"] == "finished"
                }
                lower = DIRECTIONS[self.config.metric] == "min"
                indices = sorted(int(key[-3:]) for key in promoted(scores, survivors[rung], lower))
            trials = []
            for index in indices:
                lower_run = self.records[f"rung{rung - 1}-{index:03d}"] if below else None
                trials.append(
                    Planned(
                        key=f"search-{index:03d}" if top else f"rung{rung}-{index:03d}",
                        role="searched" if top else "rung",
                        seed=self.config.seed,
                        optuna=f"search-{index:03d}",
                        images=None if top else images,
                        schedule=CurriculumSchedule.from_dict(lower_run["schedule"], "rung")
                        if lower_run
                        else None,
                        settings=lower_run.get("settings", {}) if lower_run else {},
                    )
                )
            yield trials
            below = trials

    def eliminated(self) -> set[str]:
        """Searched schedules, by Optuna's key, that a smaller budget ended: they get no run at the full one."""
        if self.config.fidelity.rule == "none":
            return set()
        known = self._searched()
        out: set[str] = set()
        for rung in range(8):
            lower = [trial for trial in known if trial.key.startswith(f"rung{rung}-")]
            above = {trial.optuna for trial in known if trial.key.startswith(f"rung{rung + 1}-")}
            above |= {trial.optuna for trial in known if trial.role == "searched"}
            size = self.config.fidelity.bracket(self.config.trials)
            for trial in lower:
                assert trial.optuna is not None
                mates = [t for t in lower if int(t.key[-3:]) // size == int(trial.key[-3:]) // size]
                if trial.optuna not in above and all(mate.key in self.records for mate in mates):
                    out.add(trial.optuna)
        return out

    def uniform_schedule(self) -> CurriculumSchedule:
        """The control: the run's own base distribution, without a curriculum."""
        return CurriculumSchedule.uniform()

    def _twins(self) -> list[Planned]:
        best = next((record for record in self.ranking() if record["role"] == "searched"), None)
        if best is None:
            return []
        schedule = CurriculumSchedule.from_dict(best["schedule"], best["key"])
        known = {
            record.get("arm_id", record["schedule_id"])
            for record in self.records.values()
            if record["role"] == "searched"
        }
        planned = [
            Planned(
                key=f"twin-{best['key']}-{name}",
                role="control",
                control=name,
                seed=self.config.seed,
                schedule=twin,
                settings=best.get("settings", {}),
                origin=best["key"],
            )
            for name, twin in twins(schedule, self.config.seed).items()
        ]
        plain = CurriculumSchedule(base=schedule.base)
        settings = best.get("settings", {})
        if settings or plain != self.uniform_schedule():
            # What the schedule brings beside its order must not be credited to the order.
            planned.append(
                Planned(
                    key=f"twin-{best['key']}-plain",
                    role="control",
                    control="rival",
                    rival="the best schedule's own settings",
                    seed=self.config.seed,
                    schedule=plain,
                    settings=settings,
                    origin=best["key"],
                )
            )
        return [twin for twin in planned if twin.schedule and twin.arm_id(twin.schedule) not in known]

    def _confirmations(self) -> list[Planned]:
        best = self.ranking()[: self.config.confirm_top]
        if not best:
            return []
        compared: list[tuple[Mapping[str, Any], str | None]] = [(record, None) for record in best]
        rival = self.best_rival()
        if rival is not None:
            compared.append((rival, "rival"))
        arms = [
            Planned(
                key=f"confirm-{record['key']}",
                role="confirmation",
                control=control,
                seed=0,
                schedule=CurriculumSchedule.from_dict(record["schedule"], "confirmation"),
                settings=record.get("settings", {}),
                rival=record["description"].removesuffix(_PLAIN) if control else None,
                origin=record["key"],
            )
            for record, control in compared
        ]
        arms.append(
            Planned(
                key="confirm-control-uniform",
                role="confirmation",
                control="uniform",
                seed=0,
                schedule=self.uniform_schedule(),
                origin="control-uniform",
            )
        )
        return [
            replace(arm, key=f"{arm.key}-seed{seed}", seed=seed)
            for seed in range(FRESH_SEEDS, FRESH_SEEDS + self.config.confirm_seeds)
            for arm in arms
        ]
