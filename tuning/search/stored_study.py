"""The study in Optuna's storage; its trials carry the plan's keys, so a killed search resumes with the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from curriculum_ray.config import ConfigError
from tuning.evidence.keys import TrialKey
from tuning.folder.identity import Identity
from tuning.search.suggestion import directions, started_with, suggest
from tuning.study.config import StudyConfig
from tuning.study.parameters import CategoricalRange, FloatRange, IntRange, Range
from tuning.study.space import SearchSpace

__all__ = ["StoredStudy", "check_earlier_trials"]

# User attributes of Optuna's trials and of its study.
_KEY, _REASON = "curriculum_ray.key", "reason"
_STUDY, _CONTENT = "curriculum_ray.id", "curriculum_ray.content"


class StoredStudy:
    """An Optuna study whose trials are known by the plan's keys, e.g. "search-007".

    A trial is stored with its key and all its parameters at once, so a kill leaves all of it or nothing.
    """

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        storage: optuna.storages.BaseStorage,
        name: str = "curriculum",
        identity: Identity | None = None,
    ) -> None:
        """Open the study `name`, or create it.

        ConfigError where the storage holds trials of a study of another `identity`, or of another space.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._config, self._space, self._storage = config, space, storage
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions(config),
            # Suggestions are made elsewhere; this sampler is never used.
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        if identity is not None:
            self._recognise(identity)
        self._check_aims()
        check_earlier_trials(self.study.get_trials(deepcopy=False), space)

    def _recognise(self, identity: Identity) -> None:
        """Mark the study with this identity, or check that it has it."""
        own, marks = {_STUDY: identity.id, _CONTENT: identity.hash}, self.study.user_attrs
        for key in own:
            if key in marks and marks[key] != own[key]:
                raise ConfigError(
                    f"Optuna's study {self.study.study_name!r} belongs to another ({key} is {marks[key]!r}, "
                    f"here {own[key]!r}): choose another storage or --output"
                )
        for key, value in own.items():
            if key not in marks:
                self.study.set_user_attr(key, value)

    def _check_aims(self) -> None:
        stored, own = (
            " and ".join(objective.name.lower() for objective in objectives)
            for objectives in (self.study.directions, directions(self._config))
        )
        if stored != own:
            raise ConfigError(
                f"Optuna's study {self.study.study_name!r} is to {stored}, and this one to {own}: "
                "choose another storage or --output"
            )

    @property
    def running(self) -> dict[TrialKey, FrozenTrial]:
        """The trials that have not ended, by key."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return {TrialKey(trial.user_attrs[_KEY]): trial for trial in trials if _KEY in trial.user_attrs}

    @property
    def known(self) -> set[TrialKey]:
        """The keys of all trials."""
        trials = self.study.get_trials(deepcopy=False)
        return {TrialKey(trial.user_attrs[_KEY]) for trial in trials if _KEY in trial.user_attrs}

    def ask(self, key: TrialKey) -> dict[str, Any]:
        """The parameters of the running trial `key`, perhaps left by an earlier start, or of a new one.

        A trial that ended, but whose record was lost or deleted since, runs again with the parameters that it had.
        """
        left = self.running.get(key)
        if left is None:
            history = self.study.get_trials(deepcopy=False)
            ended = [trial for trial in history if trial.user_attrs.get(_KEY) == key]
            left = (
                started_with(ended[-1], {_KEY: key})
                if ended
                else suggest(self._config, self._space, key.number, history, {_KEY: key})
            )
            self.study.add_trial(left)
        return left.params

    def reopen(self, key: TrialKey) -> None:
        """Have a running trial of `key` again, with the same parameters, if its trial has ended.

        A trial that this study does not hold stays unknown.
        """
        if key in self.known:
            self.ask(key)

    def report(self, trial: FrozenTrial, scores: Iterable[tuple[int, float]]) -> None:
        """Store those intermediate values of a running trial, by images, that are not stored yet."""
        new = [(images, score) for images, score in scores if images not in trial.intermediate_values]
        if new:
            opened = self._opened(trial)
            for images, score in new:
                opened.report(score, step=images)

    def complete(self, trial: FrozenTrial, values: float | list[float]) -> None:
        """End a running trial with its score at the full budget, for each objective."""
        self.study.tell(trial.number, values)

    def end(self, trial: FrozenTrial, state: TrialState, reason: str | None) -> None:
        """End a running trial without a score: PRUNED or FAIL, with the reason beside it."""
        if reason is not None:
            self._opened(trial).set_user_attr(_REASON, reason)
        self.study.tell(trial.number, state=state)

    def _opened(self, trial: FrozenTrial) -> optuna.trial.Trial:
        """A writable handle of a stored trial, which Optuna itself gives only to the process that created it."""
        study_id = self._storage.get_study_id_from_name(self.study.study_name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return optuna.trial.Trial(self.study, trial_id)


def check_earlier_trials(trials: Iterable[FrozenTrial], space: SearchSpace) -> None:
    """Raise ConfigError where a study holds trials of a space in which a key had other choices or another type.

    Optuna keeps one set of choices for each key of a study.
    """
    for trial in trials:
        for key, span in space.search.items():
            before = trial.distributions.get(key)
            if before is not None and not _compatible(before, span):
                raise ConfigError(
                    f"space {space.name} was edited: search.{key} was {_in_words(before)}, and is {span.values()} "
                    "now: choose another --name or --output"
                )


def _compatible(before: BaseDistribution, span: Range) -> bool:
    """Whether Optuna accepts the range of a key beside its earlier one."""
    match span:
        case CategoricalRange():
            return isinstance(before, CategoricalDistribution) and list(before.choices) == span.choices
        case IntRange():
            return isinstance(before, IntDistribution) and before.log == span.log
        case FloatRange():
            return isinstance(before, FloatDistribution) and before.log == span.log


def _in_words(before: BaseDistribution) -> str:
    if isinstance(before, CategoricalDistribution):
        return " or ".join(map(str, before.choices))
    kind = "whole" if isinstance(before, IntDistribution) else "real"
    scale = ", by ratios" if getattr(before, "log", False) else ""
    return f"a {kind} number{scale}"
