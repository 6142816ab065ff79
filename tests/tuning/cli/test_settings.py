"""`tune settings` lists every key as it may be written, and fits a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from curriculum_ray.config import ConfigError, flatten
from curriculum_ray.runs.config import RunConfig
from tuning.cli.settings import settings
from tuning.study.config import StudyConfig


def _listed(*words: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(settings, [*words, "--json"], catch_exceptions=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(each["meaning"] and each["type"] and each["default"] for each in found)
    return found


def test_every_setting_is_listed_with_its_meaning() -> None:
    tags = {"rule", "kind", "by", "direction", "set", "version"}
    for command, config in (("train", RunConfig()), ("search", StudyConfig())):
        keys = {each["key"] for each in _listed("--for", command)}
        named = {key.removeprefix("run.") for key in flatten(config.model_dump(mode="json"))} - {"rivals"}
        assert not {key for key in named - keys if key.rpartition(".")[2] not in tags}
    assert {each["key"] for each in _listed("--for", "train")}.isdisjoint({"trials", "halving.rule"})


def test_a_group_holds_its_own_keys_and_says_which_kind_has_them() -> None:
    found = {each["key"]: each for each in _listed("schedule.pacing")}
    assert all(key.startswith("schedule.pacing") for key in found)
    patience = found["schedule.pacing.patience_images"]
    assert (patience["tag"], patience["kinds"]) == ("schedule.pacing.rule", ["plateau"])
    assert _listed("run.optimizer") == _listed("optimizer")
    (rate,) = _listed("optimizer.learning_rate")
    assert (rate["type"], rate["default"]) == ("number, > 0, <= 1", "0.002")


def test_the_group_run_holds_the_keys_of_a_run() -> None:
    keys = [each["key"] for each in _listed("run")]
    assert keys == [each["key"] for each in _listed("--for", "train")]
    of_a_study = {each["key"] for each in _listed("run", "--for", "search")}
    assert "images" in of_a_study
    assert of_a_study < set(keys)


def test_an_unknown_group_is_one_line_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="but got 'optmizer'; did you mean optimizer\\?"):
        settings.main(["optmizer"], standalone_mode=False)
    with pytest.raises(ConfigError, match="but got 'halving'"):
        settings.main(["halving", "--for", "train"], standalone_mode=False)


def test_the_list_fits_80_columns_and_breaks_no_word() -> None:
    text = CliRunner().invoke(settings, [], catch_exceptions=False).stdout
    assert max(map(len, text.splitlines())) <= 80
    words = {word for each in _listed() for word in each["meaning"].split()}
    assert words <= set(text.split())
