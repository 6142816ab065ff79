"""Studies on shards, as a person runs them: paired arms see the same items in the same order, also after kill -9."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import yaml
from PIL import Image

from curriculum_ray.config import load_yaml, parse
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import checkpoint as checkpoints
from tests.distributed.test_stream_faults import trained_without_ray
from tests.door import start_tune

_FILES, _IMAGES = 6, 120
_ARMS = ("control-uniform", "search-000", "search-001")


def _images(number: int) -> list[bytes]:
    source = numpy.random.default_rng(number)
    contents = []
    for _ in range(_IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(source.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)).save(buffer, format="PNG")
        contents.append(buffer.getvalue())
    return contents


def _write_parquet(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    for number in range(_FILES):
        table = pyarrow.table({"image": _images(number), "label": [row % 3 for row in range(_IMAGES)]})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=23)


def _write_webdataset(folder: Path) -> None:
    for number in range(_FILES):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for row, image in enumerate(_images(number)):
                for name, content in ((f"{row}.png", image), (f"{row}.cls", b"%d" % (row % 3))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _settings(form: str) -> dict[str, Any]:
    run = {
        "data": {"name": "shards", "format": form, "image_size": 8},
        "images": 3_200,
        "batch_size": 32,
        "window": 1,
        "log_every_images": 320,
        "checkpoint": {"every_images": 320},
        "model": {"base_channels": 8},
        "heldout": {"levels": 4, "items": 8},
        "evaluation": {"extractor": "random-cnn", "num_samples": 48, "steps": 2},
    }
    space = str(Path(__file__).with_name("small_space.yaml"))
    return {"trials": 2, "confirm_top": 0, "space": space, "run": run}


def _search(folder: Path) -> subprocess.Popen[str]:
    command = ("search", "--config", "study.yaml", "--name", "study", "--concurrent", "2", "--json")
    return start_tune(folder, *command)


def _killed_in_training(folder: Path) -> None:
    """Start the study, and kill its driver when a trial has written a checkpoint."""
    process = _search(folder)
    deadline = time.monotonic() + 900
    try:
        while not [*folder.glob("runs/study/slots/slot-*/*/state.json")]:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert not [*folder.glob("runs/study/trials/*/result.json")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_trials_train_as_alone_on_shards_read_one_after_another(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shards").mkdir()
    (_write_parquet if form == "parquet" else _write_webdataset)(tmp_path / "shards")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(_settings(form)))
    if form == "webdataset":
        _killed_in_training(tmp_path)
    process = _search(tmp_path)
    out, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, out
    found = json.loads(out[out.index("{") :])
    assert found["problems"] == []
    monkeypatch.chdir(tmp_path)
    fingerprints = set()
    for key in _ARMS:
        folder = tmp_path / "runs" / "study" / "trials" / key
        result = json.loads((folder / "result.json").read_text())
        assert result["stages_walked"] == result["stages_asked"]
        assert result["images"] == 3_200
        heldout = result["heldout"]
        assert heldout["held_out"] == 72
        fingerprints.add((result["fingerprint"], heldout["fingerprint"]))
        config = parse(RunConfig, load_yaml(folder / "config.yaml"), key)
        alone = trained_without_ray(config, monkeypatch)
        weights = checkpoints.read(result["checkpoint"]).tensors["model"]
        assert all(torch.equal(weights[name], value) for name, value in alone.model.state_dict().items()), key
    assert len(fingerprints) == 1, "all arms are measured alike"
