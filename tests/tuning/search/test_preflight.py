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
