"""A study on shards is checked, planned and measured before anything starts, as one on data in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
import torch
from pyarrow import parquet

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, DataSpec
from curriculum_ray.data.shards import scan
from curriculum_ray.diffusion import DDPMSpec
from curriculum_ray.runs.prepared import cached_evaluator, cached_preview_evaluator
from curriculum_ray.training.difficulty import ProbeSpec
from tests.distributed.test_ingest import encoded
from tuning.difficulty import DifficultyConfig, measure
from tuning.folder.identity import content_of
from tuning.search.preflight import check_study
from tuning.study.config import StudyConfig
from tuning.study.reading import seconds_to_read, with_reading
from tuning.study.space import SearchSpace

SPACE = str(Path(__file__).parent.parent / "small_space.yaml")


def _write(folder: Path, count: int = 300) -> dict[str, Any]:
    values = numpy.random.default_rng(0).integers(0, 256, count).tolist()
    table = pyarrow.table(
        {"image": [encoded(value) for value in values], "label": [value % 3 for value in values]}
    )
    parquet.write_table(table, folder / "a.parquet", row_group_size=20)
    return {"name": str(folder), "format": "parquet", "image_size": 8}


def _study(data: dict[str, Any], **changes: Any) -> StudyConfig:
    run = {
        "data": data,
        "images": 6_400,
        "window": 1,
        "log_every_images": 320,
        "batch_size": 32,
        "model": {"base_channels": 8},
        "evaluation": {"extractor": "random-cnn", "num_samples": 40, "steps": 1},
    }
    return StudyConfig.model_validate({"run": run, **changes})


def test_a_study_on_shards_is_checked_whole_and_scored_by_some_of_their_items(tmp_path: Path) -> None:
    config, space = _study(_write(tmp_path)), SearchSpace.load(SPACE)
    run, data, evaluator = check_study(config, space)
    assert isinstance(data, DataInfo)
    assert (data.count, data.held_out, len(data.class_names)) == (270, 30, 3)
    assert evaluator.protocol["reference_items"] == 40
    # The driver, the workers and the previews score by one reference.
    preview = run.model_copy(update={"preview": None})
    assert cached_evaluator(preview).fingerprint == evaluator.fingerprint  # type: ignore[union-attr]
    settings = {**run.model_dump(mode="json"), "preview": {"every_images": 640, "num_samples": 20}}
    looks = cached_preview_evaluator(type(run).model_validate(settings))
    assert looks is not None
    assert looks.protocol["reference"] == evaluator.protocol["reference"]
    assert looks.protocol["num_samples"] == 20
    content = content_of({}, run.data, data, evaluator)
    assert content == content_of({}, run.data, check_study(config, space)[1], evaluator)


def test_what_a_stream_cannot_do_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least 16 real items and 16 samples, but .* has 12") as error:
        check_study(_study(_write(tmp_path, 12)), SearchSpace.load(SPACE))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="data must be held in memory where runs are packed, but got "):
        _study(_write(tmp_path), pack=2)


def test_reading_takes_the_cpus_of_training_or_goes_on_beside_a_gpu(tmp_path: Path) -> None:
    spec = DataSpec.model_validate(_write(tmp_path))
    assert 0 < seconds_to_read(spec, scan(spec).info) < 1
    assert with_reading(2.0, 3.0, torch.device("cpu")) == 5.0
    assert with_reading(2.0, 3.0, torch.device("cuda")) == 2.0
    assert with_reading(2.0, 10.0, torch.device("cuda")) == 5.0


def test_difficulty_is_measured_on_some_items_and_says_on_how_many(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    spec = DataSpec.model_validate(_write(tmp_path / "set"))
    config = DifficultyConfig(
        measure=("gaussian",), probe=ProbeSpec(data=spec, process=DDPMSpec(num_timesteps=20))
    )
    said: list[str] = []
    curves = measure(config, tmp_path, said.append)
    assert said == ["measured on 270 of 270 items of the stream set"]
    assert curves["gaussian"].meta["items"] == 270
