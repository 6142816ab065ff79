"""Every key of the settings is known by its dotted name, and a mistyped one is recognised."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import flatten
from curriculum_ray.config.keys import is_known, keys_of, meant_by
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import StudyConfig


def test_every_default_setting_is_a_known_key() -> None:
    names = {key.name for key in keys_of(StudyConfig)}
    assert set(flatten(StudyConfig().model_dump(mode="json"))) <= names | {"rivals"}
    assert "run.weighting.gamma" in names, "a key of one of several kinds"
    assert not is_known(RunConfig, "run.model")
    assert is_known(StudyConfig, "rivals.min_snr.weighting.kind"), "a mapping of anything"


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("optimizer.lr", 1, "optimizer.learning_rate"),
        ("lr", 1, "optimizer.learning_rate"),
        ("learn_rate", 1, "optimizer.learning_rate"),
        ("batchsize", 1, "batch_size"),
        ("schedule.cluster", {"count": 4}, "schedule.clusters"),
        ("run", {"model": "unet"}, "model"),
        ("evaluation.nsamples", 5, "evaluation.num_samples"),
    ],
)
def test_a_mistyped_key_is_recognised(name: str, value: Any, meant: str) -> None:
    assert meant_by(RunConfig, name, value) == f"; did you mean {meant}?"


def test_what_is_like_no_key_is_not_guessed() -> None:
    for name in ("epochs", "x", "wibble.wobble", "", "."):
        assert meant_by(RunConfig, name) == ""


def test_a_key_of_another_kind_says_of_which() -> None:
    said = "; it is a key where weighting.kind is min_snr or soft_min_snr or p2"
    assert meant_by(RunConfig, "weighting.gamma", 5) == said


def test_dots_in_a_file_are_explained() -> None:
    assert "nested mappings" in meant_by(RunConfig, "optimizer.learning_rate", 0.1)
