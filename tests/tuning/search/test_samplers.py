"""Every sampler that is offered chooses from a space it can, and is refused in one line where it cannot."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from curriculum_ray.config import ConfigError
from tuning.search.samplers import check_sampler, make_sampler, open_storage
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

CHOICES = SearchSpace.model_validate(
    {
        "version": 1,
        "search": {
            "a": {"type": "int", "low": 1, "high": 3},
            "b": {"type": "categorical", "choices": ["x", "y"]},
        },
    }
)


def _config(sampler: str) -> StudyConfig:
    return StudyConfig.model_validate({"sampler": sampler, "trials": 6, "previews": 8})


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        ("tpe", "wide"),
        ("random", "wide"),
        ("nsgaii", "wide"),
        ("gp", "default"),
        ("cmaes", "default"),
        ("tpe", "paper"),
    ],
)
def test_a_sampler_chooses_on_the_shipped_spaces(sampler: str, space: str) -> None:
    found, config = SearchSpace.load(space), _config(sampler)
    check_sampler(config, found)
    study = optuna.create_study(sampler=make_sampler(config, found, seed=0))
    for _ in range(6):
        trial = study.ask()
        SpaceFunction(found)(trial)
        study.tell(trial, float(trial.number))
    assert len(study.trials) == 6


@pytest.mark.parametrize(
    ("sampler", "space", "says"),
    [
        ("gp", "wide", "conditional"),
        ("cmaes", "wide", "conditional"),
        ("grid", "default", "patience_stage_share"),
    ],
)
def test_a_sampler_that_cannot_work_on_a_space_is_refused_in_one_line(
    sampler: str, space: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_sampler(_config(sampler), SearchSpace.load(space))
    assert "\n" not in str(caught.value)
    assert sampler in str(caught.value)


def test_a_grid_has_a_point_for_every_trial() -> None:
    with pytest.raises(ConfigError, match="at most 6"):
        check_sampler(_config("grid").model_copy(update={"trials": 7}), CHOICES)


@pytest.mark.parametrize("start", [{"a": 2, "b": "y"}, {"a": 2}])
def test_a_grid_has_no_start_points(start: dict[str, object]) -> None:
    space = CHOICES.model_copy(update={"start": [start], "name": "mine"})
    with pytest.raises(ConfigError) as refused:
        check_sampler(_config("grid"), space)
    assert str(refused.value) == (
        "sampler grid tries every point in its own order: leave start out of space mine"
    )
    check_sampler(_config("grid"), CHOICES)
    check_sampler(_config("tpe"), space)


def test_cmaes_is_refused_where_there_are_no_numbers_to_adapt_to() -> None:
    with pytest.raises(ConfigError, match="at least two searched numbers"):
        check_sampler(_config("cmaes"), CHOICES)


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_a_storage_keeps_the_study(tmp_path: Path, storage: str | None) -> None:
    study = optuna.create_study(storage=open_storage(storage, tmp_path), study_name="curriculum")
    study.tell(study.ask(), 1.0)
    again = optuna.load_study(storage=open_storage(storage, tmp_path), study_name="curriculum")
    assert again.best_value == 1.0


@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////no/such/folder/x.db", "postgres"])
def test_a_storage_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, storage: str) -> None:
    with pytest.raises(ConfigError, match="storage") as caught:
        open_storage(storage, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite://",
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_storage_that_ends_with_the_search_is_refused(tmp_path: Path, storage: str) -> None:
    with pytest.raises(ConfigError, match="is in memory and gone when the search ends: sqlite keeps a file"):
        open_storage(storage, tmp_path)
