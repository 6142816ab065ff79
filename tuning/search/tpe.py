"""Optuna's TPE, whose cost does not grow with the study: of the trials that ended it sees the best and the latest.

TPE compares the best 25 trials at most with all others, and weights those the less the older they are. Here it
compares the same 25 with the latest 250: what a suggestion costs then stays as it is at 275 trials.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

__all__ = ["BoundedTPE"]

_BEST, _LATEST = 25, 250


class BoundedTPE(optuna.samplers.TPESampler):
    """TPE over the 25 best trials that are complete, the latest 250 that ended, and those that are running."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(_bounded(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(_bounded(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(_bounded(study), trial, param_name, param_distribution)


class _Bounded:
    """A study as TPE sees it: everything is the study's own but for the list of its trials."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        trials = study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        kept = {trial.number for trial in ended[-_LATEST:]}
        complete = [
            trial for trial in ended if trial.state == TrialState.COMPLETE and trial.value is not None
        ]
        sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
        kept |= {trial.number for trial in sorted(complete, key=lambda one: sign * (one.value or 0))[:_BEST]}
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._trials = [trial for trial in ended if trial.number in kept] + running

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


def _bounded(study: optuna.Study) -> Any:
    return _Bounded(study)
