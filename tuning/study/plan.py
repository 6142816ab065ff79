"""What a study runs next: uniform sampling, rivals, searched schedules, the best one's twins, and confirmations.

Rivals change one line and have no curriculum, e.g. another weighting of the loss. Confirmations repeat the best
schedules, the best rival and uniform sampling on seeds that the search never saw.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from curriculum_ray.curriculum import CurriculumSchedule, default_base
from tuning.evidence.front import front
from tuning.evidence.records import DIRECTIONS, arm_id_of
from tuning.study.brackets import rungs
from tuning.study.config import FRESH_SEEDS, StudyConfig
from tuning.study.overlay import lay_over
from tuning.study.trial_spec import PLAIN, TrialSpec
from tuning.study.twins import twin_trials

__all__ = ["StudyPlan"]


@dataclass
class StudyPlan:
    """Hands out the trials of a study in steps; `records` holds those that ended, by key.

    A step is a list of trials that may run at the same time. The next one is made when every trial of it has ended,
    so that a trial costs the same however many there were before.
    """

    config: StudyConfig
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    rivals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Names and dotted keys of the one-line rivals."""
    complete: bool = field(default=False, init=False)
    """Whether every trial of every step has ended."""
    eliminated: set[str] = field(default_factory=set, init=False)
    """Searched schedules, by Optuna's key, that a smaller budget ended: they get no run at the full one."""

    def __post_init__(self) -> None:
        # Without a curriculum; "uniform" in u is the process's own distribution of noise levels.
        self._plain = CurriculumSchedule(base=default_base(self.config.run.process.kind))
        self._waiting: deque[TrialSpec] = deque()
        self._left: set[str] = set()  # keys of this step's trials that have not ended
        self._known: Counter[str] = Counter()  # phase -> trials in the steps so far
        self._phase = ""
        self._steps = self._all_steps()
        self._advance()

    def next(self) -> TrialSpec | None:
        """The next trial to start; None when a running one must end first, or when `complete`."""
        return self._waiting.popleft() if self._waiting else None

    def ended(self, record: Mapping[str, Any]) -> None:
        """Take note of a trial that finished or failed."""
        self.records[record["key"]] = record
        self._left.discard(record["key"])
        self._advance()

    @property
    def total(self) -> int:
        """How many trials there are in all: exact for the phases that are known, the most for those to come."""
        most = self.config.phases(len(self.rivals))
        first = most["controls"] + most["smaller budgets"] + most["searched"]
        known = self._known
        if self._phase == "opening":
            return max(first, known["opening"]) + most["twins of the best"] + most["confirmations"]
        confirming = most["confirmations"] if self._phase == "twins" else known["confirmations"]
        return known["opening"] + known["twins"] + confirming

    def _advance(self) -> None:
        """Go on to the next step with a trial that has not ended, if this one has none."""
        while not self._left:
            step = next(self._steps, None)
            if step is None:
                self.complete = True
                return
            self._phase, planned = step
            self._known[self._phase] += len(planned)
            self._waiting = deque(trial for trial in planned if trial.key not in self.records)
            self._left = {trial.key for trial in self._waiting}

    def _all_steps(self) -> Iterator[tuple[str, list[TrialSpec]]]:
        """Phases and trials of the steps; each is asked for when all before it have ended."""
        controls = self._controls()
        for searched in rungs(self.config, self.records, self.eliminated):
            yield "opening", controls + searched
            controls = []
        yield "twins", self._twins()
        yield "confirmations", self._confirmations()

    def ranking(self) -> list[Mapping[str, Any]]:
        """Finished curricula at the full budget (no repeats on other seeds, no controls without a curriculum)."""
        return self._ranked(
            record
            for record in self.records.values()
            if record["role"] not in ("confirmation", "rung")
            and record["control"] not in ("uniform", "rival")
        )

    def to_confirm(self) -> list[Mapping[str, Any]]:
        """The best curricula, which are run again: by the metric, with two aims then the others of their front.

        Of records that train alike the first counts.
        """
        arms: dict[str, Mapping[str, Any]] = {}
        for record in self.ranking():
            arms.setdefault(arm_id_of(record), record)
        ranking = list(arms.values())
        if self.config.two_aims:
            places = {
                each.key: place for place, each in enumerate(front(self.records.values(), self.config.metric))
            }
            ranking[1:] = sorted(ranking[1:], key=lambda record: places.get(record["key"], len(places)))
        return ranking[: self.config.confirm_top]

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

    def _controls(self) -> list[TrialSpec]:
        uniform = TrialSpec(
            key="control-uniform",
            role="control",
            control="uniform",
            seed=self.config.seed,
            schedule=self._plain,
        )
        return [uniform, *(self._rival(name, keys) for name, keys in self.rivals.items())]

    def _rival(self, name: str, keys: Mapping[str, Any]) -> TrialSpec:
        plain = {"schedule": self._plain.model_dump(mode="json")}
        schedule = lay_over(plain, keys, f"rivals.{name}")["schedule"]
        return TrialSpec(
            key=f"rival-{name}",
            role="control",
            control="rival",
            rival=name,
            seed=self.config.seed,
            schedule=CurriculumSchedule.from_dict(schedule, f"rivals.{name}"),
            settings={key: value for key, value in keys.items() if not key.startswith("schedule.")},
        )

    def _twins(self) -> list[TrialSpec]:
        searched = [record for record in self.records.values() if record["role"] == "searched"]
        best = next(iter(self._ranked(searched)), None)
        known = {arm_id_of(record) for record in searched}
        return [] if best is None else twin_trials(best, known, self.config.seed, self._plain)

    def _confirmations(self) -> list[TrialSpec]:
        best = self.to_confirm()
        if not best:
            return []
        compared: list[tuple[Mapping[str, Any], str | None]] = [(record, None) for record in best]
        rival = self.best_rival()
        if rival is not None:
            compared.append((rival, "rival"))
        arms = [
            TrialSpec(
                key=f"confirm-{record['key']}",
                role="confirmation",
                control=control,
                seed=0,
                schedule=CurriculumSchedule.from_dict(record["schedule"], "confirmation"),
                settings=record.get("settings", {}),
                rival=record["description"].removesuffix(PLAIN) if control else None,
                origin=record["key"],
            )
            for record, control in compared
        ]
        arms.append(
            TrialSpec(
                key="confirm-control-uniform",
                role="confirmation",
                control="uniform",
                seed=0,
                schedule=self._plain,
                origin="control-uniform",
            )
        )
        return [
            replace(arm, key=f"{arm.key}-seed{seed}", seed=seed)
            for seed in range(FRESH_SEEDS, FRESH_SEEDS + self.config.confirm_seeds)
            for arm in arms
        ]
