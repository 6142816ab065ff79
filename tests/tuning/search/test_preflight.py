"""A study is refused before anything is started."""

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
