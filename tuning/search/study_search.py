"""The study as a Tune search algorithm: OptunaSearch chooses schedules, the plan adds controls and confirmations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tuning.evidence.front import aims
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import DIRECTIONS
from tuning.evidence.records import TrialRecord
from tuning.folder.identity import Identity
from tuning.search.samplers import check_earlier_trials, make_sampler
from tuning.study.config import StudyConfig
from tuning.study.overlay import lay_over
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace, SpaceFunction
from tuning.study.trial_spec import TrialSpec

__all__ = ["StudySearch"]

_KEY = "curriculum_ray.key"
# User attributes of the Optuna study.
_STUDY, _CONTENT = "curriculum_ray.id", "curriculum_ray.content"


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
        make_job: Callable[[TrialSpec, RunConfig], dict[str, Any]],
        ended: Callable[[TrialSpec, RunResult | None], None],
        study_name: str = "curriculum",
        identity: Identity | None = None,
    ) -> None:
        """identity: the study's own; ConfigError where the storage holds trials of another."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        super().__init__(
            SpaceFunction(space),
            metric=[config.metric, "images"] if config.two_aims else config.metric,
            mode=[DIRECTIONS[config.metric], "min"] if config.two_aims else DIRECTIONS[config.metric],
            study_name=study_name,
            storage=storage,
            sampler=make_sampler(config, space),
        )
        self.config, self.space, self.plan = config, space, plan
        self._make_job, self._ended = make_job, ended
        self._planned: dict[str, TrialSpec] = {}
        if identity is not None:
            self._recognise(identity)
        check_earlier_trials(self.study.get_trials(deepcopy=False), space)
        self._enqueue_start()
        self._settle()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        study: optuna.Study | None = self._ot_study
        assert study is not None
        return study

    def _recognise(self, identity: Identity) -> None:
        """Mark the Optuna study as this one, or refuse that of another: its trials tell nothing of these runs."""
        own = {_STUDY: identity.id, _CONTENT: identity.hash}
        marks = {key: value for key, value in self.study.user_attrs.items() if key in own}
        if changed := [key for key, value in marks.items() if value != own[key]]:
            key = changed[0]
            raise ConfigError(
                f"storage: the Optuna study {self.study.study_name!r} belongs to another ({key} is {marks[key]!r}, "
                f"here {own[key]!r}): choose another storage or --output"
            )
        for key, value in own.items():
            if key not in marks:
                self.study.set_user_attr(key, value)

    def _enqueue_start(self) -> None:
        """Queue the space's start points; those that a kill left out are queued by the next start."""
        if len(self.study.get_trials(deepcopy=False)) <= len(self.space.start):
            for point in self.space.start:
                self.study.enqueue_trial(point, skip_if_exists=True)

    def _running(self) -> dict[TrialKey | None, optuna.trial.FrozenTrial]:
        """Optuna's unfinished trials by the plan's key; None is one that a kill left before it had a key."""
        return {_key_of(trial): trial for trial in self._unfinished()}

    def _unfinished(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _settle(self) -> None:
        """Tell Optuna of trials that ended: by their record at the full budget, or out at a smaller one."""
        for key, trial in self._running().items():
            record = None if key is None else self.plan.records.get(key)
            rungs = self._report_rungs(key, trial)
            if record is not None:
                self._report(trial, record.rungs)
            if record is not None and record.status == "finished":
                values = self._values(record)
                if values is not None:
                    self.study.tell(trial.number, values)
            elif record is not None and record.status == "pruned":
                self._tell_why(trial, record.reason, TrialState.PRUNED)
            elif record is not None:
                self._tell_why(trial, record.reason, TrialState.FAIL)
            elif key in self.plan.eliminated:
                if rungs[-1].status == "finished":
                    self.study.tell(trial.number, state=TrialState.PRUNED)
                else:
                    self._tell_why(trial, rungs[-1].reason, TrialState.FAIL)

    def _values(self, record: TrialRecord) -> float | list[float] | None:
        """What Optuna is told of a finished trial; None while uniform sampling, the second aim's target, runs."""
        if not self.config.two_aims:
            return record.metrics[self.config.metric]
        uniform = self.plan.records.get(TrialKey.uniform())
        if uniform is None:
            return None
        found = aims(record, uniform, self.config.metric)
        return [found.value, found.images]

    def _report_rungs(self, key: TrialKey | None, trial: optuna.trial.FrozenTrial) -> list[TrialRecord]:
        """Tell Optuna the scores at smaller budgets that it has not heard; returns the records of those runs."""
        found: list[TrialRecord] = []
        if key is None:
            return found
        for rung, images in enumerate(self.config.fidelity.budgets(self.config.run.total_images)[:-1]):
            record = self.plan.records.get(key.at_rung(rung))
            if record is None:
                break
            found.append(record)
            if record.status == "finished":
                self._report(trial, [(images, record.metrics[self.config.metric])])
        return found

    def _report(self, trial: optuna.trial.FrozenTrial, scores: Iterable[tuple[int, float]]) -> None:
        """Tell Optuna the intermediate values, by images, that it has not heard; with two aims it takes none."""
        if self.config.two_aims:
            return
        for images, score in scores:
            if images not in trial.intermediate_values:
                optuna.trial.Trial(self.study, trial._trial_id).report(score, step=images)

    def _tell_why(self, trial: optuna.trial.FrozenTrial, reason: str | None, state: TrialState) -> None:
        """The state, with the reason beside it."""
        optuna.trial.Trial(self.study, trial._trial_id).set_user_attr("reason", reason or "unknown")
        self.study.tell(trial.number, state=state)

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
        settings = self.config.with_previews(settings, planned.role, planned.control)
        self._planned[trial_id] = planned
        return self._make_job(planned, parse(RunConfig, settings, f"{self.space.name}, trial {planned.key}"))

    def _ask(self, planned: TrialSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take up the trial that an interrupted study left running under this key, or ask for a new one.

        Returns the run's settings, and the searched keys that lie beside its schedule.
        """
        running = self._running()
        left = running.get(planned.optuna, running.get(None))
        trial = self.study.ask() if left is None else optuna.trial.Trial(self.study, left._trial_id)
        trial.set_user_attr(_KEY, planned.optuna)
        SpaceFunction(self.space)(trial)
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
        source = f"the result of {planned.key}"
        self._ended(
            planned, None if final is None else RunResult.from_json(json.loads(final["result"]), source)
        )
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from Optuna's storage and its trials' records."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""


def _key_of(trial: optuna.trial.FrozenTrial) -> TrialKey | None:
    """The plan's key of an Optuna trial; None where a kill left it before it had one."""
    key = trial.user_attrs.get(_KEY)
    return None if key is None else TrialKey(key)
