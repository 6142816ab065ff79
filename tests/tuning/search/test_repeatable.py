"""Protects: a search that is interrupted anywhere goes on with the very schedules it would have tried."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest

from curriculum_ray.config import ConfigError
from tuning.search.repeatable import PlainCmaEs
from tuning.search.samplers import make_sampler, open_storage
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

TRIALS = 10
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


class Killed(BaseException):
    """kill -9: the trial stays as it is."""


class _KilledAfter:
    """A trial whose process is killed when it has suggested `left` parameters."""

    def __init__(self, trial: optuna.Trial, left: int) -> None:
        self._trial, self._left = trial, left

    def __getattr__(self, name: str) -> Any:
        def suggest(*given: Any, **named: Any) -> Any:
            if not self._left:
                raise Killed
            self._left -= 1
            return getattr(self._trial, name)(*given, **named)

        return suggest


class _Search:
    """Asks and tells as a driver does, a new process at each `start`."""

    def __init__(self, sampler: str, space: SearchSpace, folder: Path) -> None:
        # A Gaussian process takes a second a suggestion once it has four trials.
        self.trials = 6 if sampler == "gp" else TRIALS
        settings = {"sampler": sampler, "trials": self.trials, "previews": 8, "seed": 3}
        self.config, self.space, self.folder = StudyConfig.model_validate(settings), space, folder
        self.start()

    def start(self) -> None:
        self.study = optuna.create_study(
            storage=open_storage(None, self.folder),
            sampler=make_sampler(self.config, self.space),
            study_name="curriculum",
            directions=["minimize", "minimize"] if self.config.two_aims else ["minimize"],
            load_if_exists=True,
        )

    def try_one(self, killed_after: int | None = None) -> None:
        left = [trial for trial in self.study.get_trials() if not trial.state.is_finished()]
        trial = optuna.Trial(self.study, left[0]._trial_id) if left else self.study.ask()
        SpaceFunction(self.space)(trial if killed_after is None else _KilledAfter(trial, killed_after))
        score = sum(float(str(len(str(value)))) for value in trial.params.values()) + trial.number % 3
        self.study.tell(trial, [score, -score] if self.config.two_aims else score)

    @property
    def tried(self) -> list[dict[str, Any]]:
        return [trial.params for trial in self.study.get_trials()]


CASES = [
    ("tpe", SearchSpace.load("default")),
    ("tpe", SearchSpace.load("wide")),
    ("random", SearchSpace.load("wide")),
    ("nsgaii", SearchSpace.load("default")),
    ("gp", SearchSpace.load("default")),
    ("cmaes", SearchSpace.load("default")),
    ("grid", CHOICES),
]


@pytest.mark.parametrize(("sampler", "space"), CASES)
def test_a_restart_before_any_trial_changes_no_suggestion(
    tmp_path: Path, sampler: str, space: SearchSpace
) -> None:
    undisturbed = _Search(sampler, space, tmp_path)
    for _ in range(undisturbed.trials):
        undisturbed.try_one()
    (tmp_path / "again").mkdir()
    # A new process before every trial: what any single restart, or any number of them, can do.
    restarted = _Search(sampler, space, tmp_path / "again")
    for _ in range(undisturbed.trials):
        restarted.start()
        restarted.try_one()
    assert restarted.tried == undisturbed.tried
    distinct = {tuple(sorted(params.items())) for params in undisturbed.tried}
    assert len(distinct) > undisturbed.trials // 2


@pytest.mark.parametrize(("sampler", "space"), CASES)
@pytest.mark.parametrize("killed_after", [0, 2])
def test_a_kill_in_the_midst_of_a_suggestion_changes_none(
    tmp_path: Path, sampler: str, space: SearchSpace, killed_after: int
) -> None:
    undisturbed = _Search(sampler, space, tmp_path)
    for _ in range(undisturbed.trials):
        undisturbed.try_one()
    (tmp_path / "again").mkdir()
    killed = _Search(sampler, space, tmp_path / "again")
    for _ in range(undisturbed.trials):
        try:
            killed.try_one(killed_after)
        except Killed:
            killed.start()
            killed.try_one()
    assert killed.tried == undisturbed.tried


def test_other_seeds_try_other_schedules(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        space, config = SearchSpace.load("default"), StudyConfig(seed=seed)
        study = optuna.create_study(sampler=make_sampler(config, space))
        SpaceFunction(space)(trial := study.ask())
        found.append(trial.params)
    assert found[0] != found[1]


class _Opens:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("content", ["evil", "torn"])
def test_a_storage_from_elsewhere_runs_no_code(tmp_path: Path, content: str) -> None:
    study = optuna.create_study()
    trial = study.ask()
    raw = pickle.dumps(_Opens(tmp_path / "ran")) if content == "evil" else b"\x80\x04torn"
    study._storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", raw.hex())
    study.tell(trial, 1.0)
    sampler = PlainCmaEs(seed=0)
    with pytest.raises(ConfigError, match="storage holds"):
        sampler._restore_optimizer(study.get_trials())
    assert not (tmp_path / "ran").exists()
