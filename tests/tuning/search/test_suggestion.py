"""Protects: a suggestion depends on the seed, its index and the trials before it, and on nothing else."""

from __future__ import annotations

import math
import pickle
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from curriculum_ray.config import ConfigError
from tuning.evidence.keys import TrialKey
from tuning.search.samplers import make_sampler, open_storage
from tuning.search.stored_study import StoredStudy
from tuning.search.suggestion import best_and_latest, sampler_seed, suggest, without_code
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

optuna.logging.set_verbosity(optuna.logging.ERROR)
CHOICES = SearchSpace.model_validate(
    {
        "version": 1,
        "search": {
            "a": {"type": "int", "low": 1, "high": 6},
            "b": {"type": "categorical", "choices": ["x", "y"]},
        },
    }
)
NUMBERS = SearchSpace.model_validate(
    {
        "version": 1,
        "search": {
            "a": {"type": "float", "low": 0.0, "high": 1.0},
            "b": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
        },
    }
)
CASES = [
    ("tpe", SearchSpace.load("default")),
    ("tpe", SearchSpace.load("wide")),
    ("random", SearchSpace.load("wide")),
    ("nsgaii", SearchSpace.load("default")),
    ("gp", SearchSpace.load("default")),
    ("cmaes", SearchSpace.load("default")),
    ("grid", CHOICES),
]


def _config(sampler: str, **changes: Any) -> StudyConfig:
    # A Gaussian process takes a second a suggestion once it has four trials.
    trials = 6 if sampler == "gp" else 10
    settings = {"sampler": sampler, "trials": trials, "previews": 8, "seed": 3, **changes}
    return StudyConfig.model_validate(settings)


def _score(trial: FrozenTrial) -> float:
    return sum(float(len(str(value))) for value in trial.params.values()) + trial.number % 3


class _Search:
    """Asks and tells as a driver does, two trials at a time, from a new process at each `start`."""

    def __init__(self, config: StudyConfig, space: SearchSpace, folder: Path) -> None:
        self.config, self.space, self.folder = config, space, folder
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        self.stored = StoredStudy(self.config, self.space, open_storage(None, self.folder))

    def play(self, before_each: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
        for index in range(self.config.trials):
            before_each()
            self.stored.ask(TrialKey.search(index))
            before_each()
            if len(self.stored.running) == 2:
                # The latest ends first, so that the order of the ends is not that of the starts.
                trial = list(self.stored.running.values())[-1 if index % 2 else 0]
                score = _score(trial)
                self.stored.complete(trial, [score, -score] if self.config.two_objectives else score)
        return [trial.params for trial in self.stored.study.trials]


@pytest.mark.parametrize(("sampler", "space"), CASES)
def test_restarts_change_no_suggestion(tmp_path: Path, sampler: str, space: SearchSpace) -> None:
    config = _config(sampler)
    undisturbed = _Search(config, space, tmp_path / "undisturbed").play()
    restarted = _Search(config, space, tmp_path / "restarted")
    assert restarted.play(restarted.start) == undisturbed
    assert len({tuple(sorted(params.items())) for params in undisturbed}) > len(undisturbed) // 2


def test_other_seeds_and_other_indices_try_other_schedules() -> None:
    space = SearchSpace.load("wide").model_copy(update={"start": []})
    found = [
        suggest(_config("tpe", seed=seed), space, index, []).params for seed in (0, 1) for index in (0, 1)
    ]
    assert len({tuple(sorted(params.items())) for params in found}) == 4


def test_what_is_only_queued_is_no_history() -> None:
    space, queued = SearchSpace.load("default"), create_trial(state=TrialState.WAITING)
    config = _config("nsgaii")
    assert suggest(config, space, 5, [queued]).params == suggest(config, space, 5, []).params


def test_cmaes_closes_in_on_the_best_numbers() -> None:
    def distance(params: dict[str, Any]) -> float:
        return (params["a"] - 0.7) ** 2 + (math.log10(params["b"]) + 1) ** 2

    scratch = optuna.create_study()
    for index in range(80):
        trial = suggest(_config("cmaes"), NUMBERS, index, scratch.get_trials(deepcopy=False))
        scratch.add_trial(trial)
        scratch.tell(index, distance(trial.params))
    values = [trial.value for trial in scratch.trials if trial.value is not None]
    assert statistics.median(values[64:]) < 0.2 * statistics.median(values[:16])


def test_a_grid_tries_every_combination_once() -> None:
    scratch = optuna.create_study()
    for index in range(12):
        scratch.add_trial(suggest(_config("grid", trials=12), CHOICES, index, scratch.get_trials()))
        scratch.tell(index, 0.0)
    assert len({tuple(trial.params.items()) for trial in scratch.trials}) == 12


@pytest.mark.parametrize("lower", [True, False])
def test_of_a_long_history_tpe_sees_the_best_the_latest_and_the_running(lower: bool) -> None:
    scratch = optuna.create_study()
    for number in range(600):
        scratch.add_trial(create_trial(value=float(number if lower else -number)))
    scratch.add_trial(create_trial(state=TrialState.FAIL))
    scratch.add_trial(create_trial(state=TrialState.RUNNING))
    seen = best_and_latest(scratch.get_trials(deepcopy=False), lower)
    assert [trial.number for trial in seen] == [*range(25), *range(350, 600), 601]


def test_tpe_chooses_by_a_short_history_as_optunas_own_does() -> None:
    config, space = _config("tpe", trials=20), SearchSpace.load("wide").model_copy(update={"start": []})
    whole = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(40):
        SpaceFunction(space)(whole.ask())
        if number < 38:
            whole.tell(number, _score(whole.get_trials(deepcopy=False)[-1]))
    history = whole.get_trials(deepcopy=False)
    theirs = optuna.create_study(sampler=make_sampler(config, space, sampler_seed(config.seed, 40)))
    theirs.add_trials(history)
    SpaceFunction(space)(trial := theirs.ask())
    assert suggest(config, space, 40, history).params == trial.params


def test_tpe_learns_from_a_history_that_is_longer_than_what_it_is_shown() -> None:
    config, space = _config("tpe", trials=2000), SearchSpace.load("default").model_copy(update={"start": []})
    tried = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(600):
        SpaceFunction(space)(trial := tried.ask())
        tried.tell(number, abs(trial.params["schedule.pacing.patience_stage_share"] - 0.2))
    history = tried.get_trials(deepcopy=False)
    assert suggest(config, space, 600, history).params != suggest(config, space, 600, []).params


class _Opens:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("content", ["evil", "torn", "in parts", "no text"])
def test_a_storage_from_elsewhere_runs_no_code(tmp_path: Path, content: str) -> None:
    raw = pickle.dumps(_Opens(tmp_path / "ran")).hex()
    states: dict[str, dict[str, Any]] = {
        "evil": {"cma:optimizer:0": raw},
        "torn": {"cma:optimizer:0": b"\x80\x04torn".hex()},
        "in parts": {"cma:optimizer:0": "", "cma:optimizer:1": raw, "cma:optimizerX": ""},
        "no text": {"cma:optimizer:0": [raw]},
    }
    scratch = optuna.create_study()
    for number in range(4):
        trial = suggest(_config("cmaes"), NUMBERS, number, [])
        trial.system_attrs.update(states[content] if number == 3 else {})
        scratch.add_trial(trial)
        scratch.tell(number, 1.0)
    with pytest.raises(ConfigError, match="storage holds") as caught:
        suggest(_config("cmaes"), NUMBERS, 4, scratch.trials)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_texts_that_a_sampler_might_unpickle_are_left_out() -> None:
    trial = create_trial(value=1.0, system_attrs={"cma:generation": 3, "sepcma:optimizer:0": "80"})
    (kept,) = without_code([trial])
    assert kept.system_attrs == {"cma:generation": 3}
