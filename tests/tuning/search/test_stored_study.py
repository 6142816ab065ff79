"""What a storage already holds is this study's, in a space that Optuna takes, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from curriculum_ray.config import ConfigError
from tuning.evidence.keys import TrialKey
from tuning.search.samplers import open_storage
from tuning.search.stored_study import StoredStudy, check_earlier_trials
from tuning.search.suggestion import suggest
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

RANGES: dict[str, dict[str, Any]] = {
    "two choices": {"type": "categorical", "choices": ["x", "y"]},
    "three choices": {"type": "categorical", "choices": ["x", "y", "z"]},
    "turned choices": {"type": "categorical", "choices": ["y", "x"]},
    "whole": {"type": "int", "low": 1, "high": 3},
    "wider whole": {"type": "int", "low": 1, "high": 30},
    "whole by ratios": {"type": "int", "low": 1, "high": 3, "log": True},
    "real": {"type": "float", "low": 1.0, "high": 3.0},
    "narrower real": {"type": "float", "low": 1.0, "high": 1.5},
    "real by ratios": {"type": "float", "low": 1.0, "high": 3.0, "log": True},
}
CONFIG = StudyConfig(trials=4, sampler="random")


def _space(kind: str) -> SearchSpace:
    other = {"type": "int", "low": 1, "high": 2}
    return SearchSpace.model_validate(
        {"version": 1, "name": "mine", "search": {"a": RANGES[kind], "b": other}}
    )


def _earlier(kind: str) -> Any:
    return suggest(CONFIG, _space(kind), 0, [])


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ("two choices", "three choices", "was x or y, and is x or y or z now"),
        ("two choices", "turned choices", "was x or y, and is y or x now"),
        ("two choices", "whole", "was x or y, and is 1 to 3 now"),
        ("whole", "two choices", "was a whole number, and is x or y now"),
        ("whole", "real", "was a whole number, and is 1 to 3 now"),
        ("real", "whole", "was a real number, and is 1 to 3 now"),
        ("whole", "whole by ratios", "was a whole number, and is 1 to 3, by ratios now"),
        ("real by ratios", "real", "was a real number, by ratios, and is 1 to 3 now"),
    ],
)
def test_earlier_trials_of_another_space_are_refused_in_one_line(before: str, now: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"space mine was edited: search\.a") as caught:
        check_earlier_trials([_earlier(before)], _space(now))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "now"), [("whole", "wider whole"), ("real", "narrower real"), ("real", "real")]
)
def test_numbers_may_have_had_other_ends(before: str, now: str) -> None:
    check_earlier_trials([_earlier(before)], _space(now))


def test_earlier_trials_need_not_have_every_key() -> None:
    check_earlier_trials([create_trial(value=1.0), create_trial(state=TrialState.WAITING)], _space("whole"))


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_an_edited_space_is_refused_before_any_trial_is_asked_for(
    tmp_path: Path, storage: str | None
) -> None:
    StoredStudy(CONFIG, _space("two choices"), open_storage(storage, tmp_path)).ask(TrialKey("search-000"))
    with pytest.raises(ConfigError, match="was edited") as caught:
        StoredStudy(CONFIG, _space("three choices"), open_storage(storage, tmp_path))
    assert "\n" not in str(caught.value)
    kept = StoredStudy(CONFIG, _space("two choices"), open_storage(storage, tmp_path)).study.trials
    assert [trial.state for trial in kept] == [TrialState.RUNNING]


def test_a_study_of_other_aims_is_refused_in_one_line(tmp_path: Path) -> None:
    StoredStudy(CONFIG, _space("whole"), open_storage(None, tmp_path))
    two = StudyConfig(sampler="nsgaii", previews=4)
    with pytest.raises(ConfigError, match="is to minimize, and this one to minimize and minimize") as caught:
        StoredStudy(two, _space("whole"), open_storage(None, tmp_path))
    assert "\n" not in str(caught.value)


def test_somebody_elses_trials_in_the_storage_are_left_alone(tmp_path: Path) -> None:
    stored = StoredStudy(CONFIG, _space("whole"), open_storage("sqlite", tmp_path))
    theirs = optuna.load_study(study_name="curriculum", storage=open_storage("sqlite", tmp_path))
    theirs.enqueue_trial({"a": 2, "b": 1})
    theirs.ask()
    stored.ask(TrialKey("search-000"))
    assert list(stored.running) == ["search-000"]
    stored.complete(stored.running["search-000"], 1.0)
    states = [trial.state for trial in theirs.trials]
    assert states == [TrialState.RUNNING, TrialState.COMPLETE]
