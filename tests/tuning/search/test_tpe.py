"""TPE that forgets old bad trials: a short study as by Optuna, and a bounded view of a long one."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from tuning.search.tpe import BoundedTPE, _Bounded


def _ask_and_tell(sampler: optuna.samplers.BaseSampler, trials: int) -> list[dict[str, float]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        x = trial.suggest_float("x", -1, 1)
        value = x * x
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            value += trial.suggest_float("only a has it", 0, 1)
        study.tell(trial, value)
    return [trial.params for trial in study.trials]


def test_a_short_study_is_searched_as_by_optuna() -> None:
    options = {"seed": 1, "multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 5}
    ours = _ask_and_tell(BoundedTPE(**options), 40)
    assert ours == _ask_and_tell(optuna.samplers.TPESampler(**options), 40)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_of_a_long_study_the_best_the_latest_and_the_running_are_seen(direction: str) -> None:
    study = optuna.create_study(direction=direction)
    sign = 1 if direction == "minimize" else -1
    for number in range(600):
        study.add_trial(optuna.trial.create_trial(value=sign * float(number)))
    running = study.ask()
    seen = _Bounded(study)._get_trials()
    assert [trial.number for trial in seen] == [*range(25), *range(350, 600), running.number]
    assert [t.number for t in _Bounded(study)._get_trials(states=(TrialState.RUNNING,))] == [running.number]
