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


def test_a_space_does_not_lay_aside_what_the_study_asks_for() -> None:
    with pytest.raises(
        ConfigError, match=r"run\.optimizer\.learning_rate is 0\.5, but space .* fixes it at 0\.1"
    ):
        check({"fixed": {"optimizer": {"learning_rate": 0.1}}}, run={"optimizer": {"learning_rate": 0.5}})


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"schedule": {"clusters": {"by": "uniform", "count": 7}}}, "run.schedule.clusters.count is 7"),
        ({"schedule": {"base": {"kind": "logit_normal"}}}, "run.schedule.base.kind is 'logit_normal'"),
        ({"process": {"kind": "edm"}, "schedule": {"base": {"kind": "edm"}}}, "run.schedule.base"),
        ({"seed": 5}, "run.seed must be left out of a study"),
    ],
)
@pytest.mark.parametrize("study", [{}, {"arms": {"a": {"weighting.kind": "p2"}}}])
def test_what_every_trial_has_for_itself_is_not_set_for_all(
    run: dict[str, Any], says: str, study: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StudyConfig, {"run": run, **study}, "study.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize("process", ["ddpm", "edm", "flow"])
def test_a_study_can_be_repeated_from_its_written_settings(process: str) -> None:
    config = parse(StudyConfig, {"run": {"process": {"kind": process}}, "confirm_top": 0}, "settings")
    again = parse(StudyConfig, {**config.decisive(), **config.asked()}, "study.json")
    assert again.decisive() == config.decisive()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"confirm_top": 0, "confirm_seeds": 5}, "confirm_seeds is for confirmations"),
        ({"confirm_top": 0, "futility": 0}, "futility is for confirmations"),
        ({"confirm_top": 0, "previews": 4}, "previews is for confirmations"),
        ({"confirm_top": 5, "trials": 2}, "confirm_top must be at most 4"),
        (
            {"confirm_top": 4, "trials": 9, "halving": {"rule": "compressed", "reduction": 3, "rungs": 2}},
            "confirm_top must be at most 3, the schedules of 9 trials that are run at the full budget",
        ),
    ],
)
def test_settings_of_confirmations_that_there_are_not_are_refused(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(StudyConfig, settings, "settings")
    assert says in str(caught.value)


def test_previews_without_confirmations_are_for_a_second_objective() -> None:
    config = parse(StudyConfig, {"confirm_top": 0, "previews": 4, "sampler": "nsgaii"}, "settings")
    assert config.with_previews({}, "searched", None)["preview"] is not None


def test_a_study_confirms_its_twins_too() -> None:
    assert parse(StudyConfig, {"confirm_top": 4, "trials": 2}, "settings").confirm_top == 4


def test_the_base_of_the_process_is_nothing_that_was_asked_for() -> None:
    fixed = {"schedule": {"base": {"kind": "log_normal_sigma", "mean": -0.4, "std": 1.0}}}
    check({"fixed": fixed}, run={"process": {"kind": "edm"}})


def test_two_rivals_of_one_name_are_refused() -> None:
    rival = {"weighting.kind": "min_snr"}
    check({"rivals": {"r": rival}}, rivals={"r": rival})
    with pytest.raises(ConfigError, match="another name"):
        check({"rivals": {"r": rival}}, rivals={"r": {"weighting.kind": "p2"}})
