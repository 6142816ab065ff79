"""A study as a search algorithm: Optuna suggests schedules; the plan adds controls and confirmations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from curriculum_ray.config import parse
from curriculum_ray.runs.config import RunConfig
from tuning.evidence.front import objectives
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.folder.identity import Identity
from tuning.search.stored_study import StoredStudy
from tuning.study.config import StudyConfig
from tuning.study.overlay import lay_over
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

__all__ = ["StudySearch"]


class StudySearch:
    """Suggests the trials of a `StudyPlan`, and reports those that end to Optuna.

    Searched trials come from Optuna, which does not know of controls and confirmations. Trials that an earlier start of
    the study left running are suggested again unchanged.
    """

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        plan: StudyPlan,
        storage: optuna.storages.BaseStorage,
        study_name: str = "curriculum",
        identity: Identity | None = None,
    ) -> None:
        """ConfigError where the storage holds trials of a study of another `identity`."""
        self.config, self.space, self.plan = config, space, plan
        self._stored = StoredStudy(config, space, storage, study_name, identity)
        self._settle()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._stored.study

    @property
    def complete(self) -> bool:
        """Whether every trial of the study has ended."""
        return self.plan.complete

    @property
    def forgotten(self) -> int:
        """How many schedules were tried that Optuna's study does not hold, as it was lost or is kept elsewhere now."""
        tried = {key for key, record in self.plan.records.items() if record.role == "searched"}
        return len(tried - self._stored.known)

    def suggest(self) -> tuple[TrialSpec, RunConfig] | None:
        """The next trial with its run's settings; None if a running one must end first, or if none is left."""
        planned = self.plan.next()
        if planned is None:
            return None
        base = self.config.run.model_dump(mode="json")
        if planned.schedule is None:
            assert planned.optuna is not None
            params = self._stored.ask(planned.optuna)
            settings = self.space.apply(base, params)
            own = {key: value for key, value in params.items() if not key.startswith("schedule.")}
            planned = replace(planned, settings=own)
        else:
            if planned.optuna is not None:
                # With more trials than before, a schedule may be promoted that had been eliminated.
                self._stored.reopen(planned.optuna)
            fixed = self.space.apply(base, {})
            fixed["schedule"] = planned.schedule.model_dump(mode="json")
            settings = lay_over(fixed, planned.settings, f"trial {planned.key}")
        settings = {**settings, "seed": planned.seed}
        if planned.images is not None:
            settings["images"] = planned.images
        settings = self.config.with_previews(settings, planned.role, planned.control)
        return planned, parse(RunConfig, settings, f"{self.space.name}, trial {planned.key}")

    def ended(self, record: TrialRecord) -> None:
        """Record a trial that finished, failed or was stopped."""
        self.plan.ended(record)
        self._settle()

    def _settle(self) -> None:
        """Report trials that ended to Optuna: by their record at the full budget, or as eliminated at a smaller one."""
        for key, trial in self._stored.running.items():
            record = self.plan.records.get(key)
            rungs = self._report_rungs(key, trial)
            if record is None:
                if key in self.plan.eliminated:
                    self._eliminate(trial, rungs[-1])
                continue
            self._report(trial, record.rungs)
            if record.status == "finished":
                values = self._values(record)
                if values is not None:
                    self._stored.complete(trial, values)
            elif record.status == "pruned":
                self._stored.end(trial, TrialState.PRUNED, record.reason)
            else:
                self._fail(trial, record.reason)

    def _values(self, record: TrialRecord) -> float | list[float] | None:
        """The score of a finished trial by each objective; None until uniform sampling, the second's target, ends."""
        if not self.config.two_objectives:
            return record.metrics[self.config.metric]
        uniform = self.plan.records.get(TrialKey.uniform())
        if uniform is None:
            return None
        found = objectives(record, uniform, self.config.metric)
        return [found.value, found.images]

    def _report_rungs(self, key: TrialKey, trial: FrozenTrial) -> list[TrialRecord]:
        """Report the scores of a schedule's runs at smaller budgets; returns the records of those that ended."""
        budgets = self.config.halving.budgets(self.config.run.total_images)[:-1]
        found: list[TrialRecord] = []
        for rung, images in enumerate(budgets):
            record = self.plan.records.get(key.at_rung(rung))
            if record is None:
                break
            found.append(record)
            if record.status == "finished":
                self._report(trial, [(images, record.metrics[self.config.metric])])
        return found

    def _report(self, trial: FrozenTrial, scores: Iterable[tuple[int, float]]) -> None:
        """Report intermediate values, by images; not with two objectives, for which Optuna accepts none."""
        if not self.config.two_objectives:
            self._stored.report(trial, scores)

    def _eliminate(self, trial: FrozenTrial, last: TrialRecord) -> None:
        """End a schedule without a run at the full budget, by its last run at a smaller one."""
        if last.status == "finished":
            self._stored.end(trial, TrialState.PRUNED, None)
        else:
            self._fail(trial, last.reason)

    def _fail(self, trial: FrozenTrial, reason: str | None) -> None:
        self._stored.end(trial, TrialState.FAIL, reason or "unknown")
