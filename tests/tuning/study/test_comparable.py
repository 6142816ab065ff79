"""A study compares like with like: what a space or a rival may change is declared for every key of a run."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.runs.config import RunConfig
from tuning.search.preflight import study_rivals
from tuning.study.comparable import PLACES, check_comparable, place_of
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

COUNT = {"schedule.clusters.count": {"type": "int", "low": 3, "high": 4}}
WHOLE = {"type": "int", "low": 1, "high": 9}


def check(space: dict[str, Any], **settings: Any) -> None:
    config = parse(StudyConfig, settings, "settings")
    found = parse(SearchSpace, {"version": 1, "search": COUNT, **space}, "space")
    check_comparable(config, found, study_rivals(config, found))


def test_every_key_of_a_run_is_classified_and_nothing_else() -> None:
    assert set(RunConfig.model_fields) == {key for key in PLACES if "." not in key}
    for place in PLACES.values():
        assert bool(place.reason) != place.differs
        assert place.fixed or not place.differs
    for key in PLACES:
        group, _, inner = key.partition(".")
        assert not inner or group in PLACES


@pytest.mark.parametrize(
    "key", [key for key, place in PLACES.items() if not place.differs and key != "schedule.version"]
)
def test_what_trials_share_is_neither_searched_nor_changed_by_a_rival(key: str) -> None:
    for inner in (key, f"{key}.anything"):
        for space in ({"search": {inner: WHOLE}}, {"rivals": {"r": {inner: 1}}}):
            with pytest.raises(ConfigError) as caught:
                check(space)
            place = place_of(key)
            assert place is not None
            assert place.reason in str(caught.value)
            assert key in str(caught.value)
    with pytest.raises(ConfigError):
        check({}, rivals={"r": {key: 1}})


@pytest.mark.parametrize("key", [key for key, place in PLACES.items() if not place.fixed])
def test_a_space_does_not_fix_what_belongs_to_the_study(key: str) -> None:
    nested: Any = 1
    for part in reversed(key.split(".")):
        nested = {part: nested}
    with pytest.raises(ConfigError, match=r"must not be in a space"):
        check({"fixed": nested})


@pytest.mark.parametrize(
    "rival",
    [
        {"schedule": {"clusters": {"by": "uniform", "count": 3}, "order": {"direction": "random"}}},
        {"schedule": 1},
        {"schedule.order": {"direction": "random"}},
        {"schedule.pacing.rule": "fixed"},
        {},
    ],
)
def test_a_rival_has_no_curriculum_and_changes_something(rival: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^rivals\.r (must have no curriculum|changes nothing)"):
        check({"rivals": {"r": rival}})


def test_arms_may_differ_in_how_they_are_trained() -> None:
    check(
        {
            "search": {**COUNT, "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}},
            "fixed": {"model": {"base_channels": 8}, "optimizer": {"weight_decay": 0.1}},
            "rivals": {
                "a": {"schedule": {"base": {"kind": "logit_normal"}}},
                "b": {"weighting.kind": "min_snr"},
            },
        }
    )


@pytest.mark.parametrize(
    ("run", "key"),
    [
        ({"optimizer": {"learning_rate": 0.5}}, "run.optimizer.learning_rate is 0.5"),
        ({"schedule": {"clusters": {"by": "uniform", "count": 7}}}, "run.schedule.clusters.count is 7"),
    ],
)
def test_a_space_does_not_lay_aside_what_the_study_asks_for(run: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({"fixed": {"optimizer": {"learning_rate": 0.1}}}, run=run)
    assert key in str(caught.value)


def test_the_base_of_the_process_is_nothing_that_was_asked_for() -> None:
    fixed = {"schedule": {"base": {"kind": "log_normal_sigma", "mean": -0.4, "std": 1.0}}}
    check({"fixed": fixed}, run={"process": {"kind": "edm"}})


def test_two_rivals_of_one_name_are_refused() -> None:
    rival = {"weighting.kind": "min_snr"}
    check({"rivals": {"r": rival}}, rivals={"r": rival})
    with pytest.raises(ConfigError, match="another name"):
        check({"rivals": {"r": rival}}, rivals={"r": {"weighting.kind": "p2"}})
