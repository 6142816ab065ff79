"""Profiled steps are the same as others, and leave a trace of them, unless the run ends first."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from curriculum_ray.data import Dataset, load_data
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.profile import Profiled, trace_name
from curriculum_ray.training.profile_spec import ProfiledSteps
from curriculum_ray.training.trainer import Trainer

CONFIG = TrainConfig.model_validate(
    {
        "batch_size": 16,
        "images": 16 * 6,
        "window": 2,
        "log_every_images": 32,
        "model": {"base_channels": 8},
        "heldout": None,
    }
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(CONFIG.data)


def test_a_stretch_of_steps_is_recorded_and_trains_as_ever(tmp_path: Path, data: Dataset) -> None:
    plain, trainer = Trainer(CONFIG, data), Trainer(CONFIG, data)
    profiled = Profiled([trainer], ProfiledSteps(start=3, steps=2), tmp_path / "profile")
    assert train(plain)
    assert train(trainer, runs=profiled)
    assert trainer.loss == plain.loss
    (trace,) = (tmp_path / "profile").iterdir()
    assert trace.name == trace_name(4 * 16)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert len({event["name"] for event in events if event["name"].startswith("ProfilerStep#")}) == 2


def test_a_run_that_ends_first_leaves_no_trace_and_says_so(
    tmp_path: Path, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(CONFIG, data)
    profiled = Profiled([trainer], ProfiledSteps(start=5, steps=4), tmp_path / "profile")
    assert train(trainer, runs=profiled)
    profiled.close()
    assert "there were only 6 steps left" in caplog.text
    assert not (tmp_path / "profile").exists()
