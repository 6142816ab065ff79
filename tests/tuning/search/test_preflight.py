"""A study is refused before anything is started."""

from typing import Any

import pytest

from curriculum_ray.config import ConfigError
from tuning.search.preflight import check_study
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace


def test_the_optimiser_of_a_rival_is_checked_although_its_network_is_the_studys() -> None:
    keys = {"optimizer.kind": "sgd", "optimizer.options": {"momentum": -1}}
    config = StudyConfig.model_validate({"rivals": {"slow": keys}})
    with pytest.raises(ConfigError, match=r"^rivals\.slow: optimizer\.kind sgd cannot be made: ValueError"):
        check_study(config, SearchSpace.load("default"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"rivals": {"a": {"weighting.kind": "none"}}},
            r"^rivals\.a trains like uniform sampling: every rival",
        ),
        (
            {
                "rivals": {
                    "a": {"weighting.kind": "p2"},
                    "b": {"weighting.kind": "p2", "weighting.gamma": 1.0},
                }
            },
            r"^rivals\.b trains like a: every rival must differ from all others",
        ),
        (
            {"rivals": {"a": {"weighting.kind": "min_snr"}}, "run": {"weighting": {"kind": "min_snr"}}},
            r"^rivals\.a trains like uniform sampling",
        ),
        ({"rivals": {"a": {"schedule.base.kind": "uniform"}}}, r"^rivals\.a trains like uniform sampling"),
    ],
)
def test_a_rival_that_trains_like_another_control_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_study(StudyConfig.model_validate(settings), SearchSpace.load("default"))


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ({"kind": "changing", "at_images": 1000}, "at_images"),
        ({"kind": "changing", "at_share": 0.2, "blend_images": 500}, "blend_images"),
    ],
)
def test_a_change_in_images_is_not_compressed(base: dict[str, Any], names: str) -> None:
    settings = {
        "trials": 4,
        "halving": {"rule": "compressed", "reduction": 2, "rungs": 1},
        "rivals": {"changing": {"schedule.base": base}},
    }
    line = rf"^rivals\.changing: schedule\.base\.{names} cannot be compressed: give a share of the budget$"
    with pytest.raises(ConfigError, match=line):
        check_study(StudyConfig.model_validate(settings), SearchSpace.load("default"))


def test_a_change_after_the_end_of_the_budget_is_refused() -> None:
    base = {"kind": "changing", "at_images": 60_000}
    settings = {"run": {"images": 40_000}, "rivals": {"changing": {"schedule.base": base}}}
    with pytest.raises(
        ConfigError, match=r"^rivals\.changing: schedule\.base: the change must begin"
    ) as caught:
        check_study(StudyConfig.model_validate(settings), SearchSpace.load("default"))
    assert "\n" not in str(caught.value)
