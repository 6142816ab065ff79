"""The study as a Tune search algorithm: OptunaSearch chooses schedules, the plan adds controls and confirmations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from curriculum_ray.config import parse
from curriculum_ray.distributed.config import RunConfig
from tuning.config import StudyConfig
from tuning.plan import Planned, StudyPlan
from tuning.records import DIRECTIONS
from tuning.samplers import make_sampler
from tuning.space import SearchSpace, SpaceFunction, lay_over

__all__ = ["StudySearch"]

_KEY = "curriculum_ray.key"


class StudySearch(OptunaSearch):
    """Suggests the trials of a `StudyPlan`; those with the role "searched" come from Optuna.

    Optuna's trials carry the plan's key, so that a study that was interrupted goes on with the very trials that
    were running.
    """

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        plan: StudyPlan,
        storage: optuna.storages.BaseStorage,
        make_job: Callable[[Planned, RunConfig], dict[str, Any]],
        ended: Callable[[Planned, Mapping[str, Any] | None], None],
        study_name: str = "curriculum",
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        super().__init__(
            SpaceFunction(space),
            metric=config.metric,
            mode=DIRECTIONS[config.metric],
            study_name=study_name,
            storage=storage,
            sampler=make_sampler(config, space),
        )
        self.config, self.space, self.plan = config, space, plan
        self._make_job, self._ended = make_job, ended
        self._planned: dict[str, Planned] = {}
        self._enqueue_start()
        self._settle()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        study: optuna.Study | None = self._ot_study
        assert study is not None
        return study

    def _enqueue_start(self) -> None:
        if not self.study.get_trials(deepcopy=False):
            for point in self.space.start:
                self.study.enqueue_trial(point)

    def _running(self) -> dict[str, optuna.trial.FrozenTrial]:
        """Optuna's unfinished trials by the plan's key."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return {trial.user_attrs.get(_KEY, ""): trial for trial in trials}

    def _settle(self) -> None:
        """Tell Optuna of trials that ended: by their record at the full budget, or out at a smaller one."""
        out = self.plan.eliminated()
        for key, trial in self._running().items():
            record = self.plan.records.get(key)
            if record is not None and record["status"] == "finished":
                self.study.tell(trial.number, record["metrics"][self.config.metric])
            elif record is not None:
                self._fail(trial, record.get("reason"))
            elif key in out:
                reasons = [
                    self.plan.records[rung]["reason"]
                    for rung in self.plan.records
                    if rung.startswith("rung")
                    and rung[-3:] == key[-3:]
                    and "reason" in self.plan.records[rung]
                ]
                if reasons:
                    self._fail(trial, reasons[-1])
                else:
                    self.study.tell(trial.number, state=TrialState.PRUNED)

    def _fail(self, trial: optuna.trial.FrozenTrial, reason: str | None) -> None:
        """FAIL, with the reason beside it."""
        optuna.trial.Trial(self.study, trial._trial_id).set_user_attr("reason", reason or "unknown")
        self.study.tell(trial.number, state=TrialState.FAIL)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's Tune configuration; None to wait, FINISHED when the study is complete."""
        planned = self.plan.next()
        if planned is None:
            return Searcher.FINISHED if self.plan.complete else None
        if planned.schedule is None:
            settings, own = self._ask(planned)
            planned = replace(planned, settings=own)
        else:
            fixed = self.space.apply(self.config.run.model_dump(mode="json"), {})
            fixed["schedule"] = planned.schedule.model_dump(mode="json")
            settings = lay_over(fixed, planned.settings, f"trial {planned.key}")
        settings = {**settings, "seed": planned.seed}
        if planned.images is not None:
            settings["images"] = planned.images
        if planned.role == "confirmation" and self.config.previews:
            every = self.config.run.total_images // self.config.previews
            settings["preview"] = {**(settings.get("preview") or {}), "every_images": max(1, every)}
        self._planned[trial_id] = planned
        return self._make_job(planned, parse(RunConfig, settings, f"{self.space.name}, trial {planned.key}"))

    def _ask(self, planned: Planned) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take up the trial that an interrupted study left running under this key, or ask for a new one.

        Returns the run's settings, and the searched keys that lie beside its schedule.
        """
        left = self._running().get(planned.optuna or "")
        if left is not None:
            trial = optuna.trial.Trial(self.study, left._trial_id)
        else:
            trial = self.study.ask()
            trial.set_user_attr(_KEY, planned.optuna)
        self._suggest_from_define_by_run_func(SpaceFunction(self.space), trial)
        settings = self.space.apply(self.config.run.model_dump(mode="json"), trial.params)
        own = {key: value for key, value in trial.params.items() if not key.startswith("schedule.")}
        return settings, own

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Unfinished trials have no metric: a curriculum in its early stages has not seen low noise yet."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna: COMPLETE only with a metric at the full budget, FAIL for a crash, PRUNED for a stop."""
        final = result if result is not None and result.get("outcome") == "finished" and not error else None
        planned = self._planned.pop(trial_id)
        left = self._running().get(planned.optuna or "")
        self._ended(planned, None if final is None else json.loads(final["result"]))
        if left is not None and final is not None and planned.role == "rung":
            score = final[self.config.metric]
            trial = optuna.trial.Trial(self.study, left._trial_id)
            trial.report(score, step=planned.images or 0)
        elif left is not None and final is None and not error and result is not None:
            self.study.tell(left.number, state=TrialState.PRUNED)
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from Optuna's storage and its trials' records."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""
