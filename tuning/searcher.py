"""The study as a Tune search algorithm: OptunaSearch chooses schedules, the plan adds controls and confirmations."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from curriculum_ray.config import parse
from curriculum_ray.distributed.config import RunConfig
from tuning.config import StudyConfig
from tuning.plan import Planned, StudyPlan
from tuning.records import DIRECTIONS
from tuning.space import SearchSpace, SpaceFunction

__all__ = ["StudySearch", "open_storage"]

_KEY = "curriculum_ray.key"


def open_storage(path: Path) -> optuna.storages.BaseStorage:
    """The study's persistent Optuna storage: a journal file, safe for one writer and many readers."""
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


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
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        super().__init__(
            SpaceFunction(space),
            metric=config.metric,
            mode=DIRECTIONS[config.metric],
            study_name="curriculum",
            storage=storage,
            sampler=optuna.samplers.TPESampler(
                seed=config.seed,
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=max(4, config.trials // 4),
            ),
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

    def _settle(self) -> None:
        """Tell Optuna of trials whose record was written just before the study was killed."""
        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            record = self.plan.records.get(left.user_attrs.get(_KEY, ""))
            if record is not None and record["status"] == "finished":
                self.study.tell(left.number, record["metrics"][self.config.metric])
            elif record is not None:
                self.study.tell(left.number, state=TrialState.FAIL)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's Tune configuration; None to wait, FINISHED when the study is complete."""
        planned = self.plan.next()
        if planned is None:
            return Searcher.FINISHED if self.plan.complete else None
        if planned.schedule is None:
            run = self._ask(trial_id, planned)
        else:
            fixed = self.space.apply(self.config.run.model_dump(mode="json"), {})
            fixed["schedule"] = planned.schedule.model_dump(mode="json")
            run = parse(RunConfig, {**fixed, "seed": planned.seed}, f"trial {planned.key}")
        self._planned[trial_id] = planned
        return self._make_job(planned, run)

    def _ask(self, trial_id: str, planned: Planned) -> RunConfig:
        """Take up the trial that an interrupted study left running under this key, or ask for a new one."""
        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if left.user_attrs.get(_KEY) == planned.key:
                self._ot_trials[trial_id] = optuna.trial.Trial(self.study, left._trial_id)
                break
        else:
            self._ot_trials[trial_id] = self.study.ask()
            self._ot_trials[trial_id].set_user_attr(_KEY, planned.key)
        trial = self._ot_trials[trial_id]
        self._suggest_from_define_by_run_func(SpaceFunction(self.space), trial)
        settings = self.space.apply(self.config.run.model_dump(mode="json"), trial.params)
        return parse(RunConfig, {**settings, "seed": planned.seed}, f"{self.space.name}, trial {planned.key}")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Unfinished trials have no metric: a curriculum in its early stages has not seen low noise yet."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna: COMPLETE only with a metric at the full budget, FAIL for a crash, PRUNED for a stop."""
        final = result if result is not None and result.get("outcome") == "finished" and not error else None
        self._ended(self._planned.pop(trial_id), None if final is None else json.loads(final["result"]))
        if trial_id in self._ot_trials:
            super().on_trial_complete(trial_id, dict(final) if final else None, error)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from Optuna's storage and its trials' records."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""
