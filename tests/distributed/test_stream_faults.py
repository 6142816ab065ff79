"""A stream that is killed in training, with real processes: the same command resumes it, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from curriculum_ray.distributed.ingest import StreamedBatches, _Reader
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.prepared import cached_stream
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.distributed.test_ingest import encoded
from tests.door import start_tune

SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "images": 16 * 1500,
    "window": 2,
    "log_every_images": 16 * 6,
    "checkpoint": {"every_images": 16 * 12},
    "model": {"base_channels": 8},
    "data": {"name": "shards", "format": "parquet", "image_size": 8},
}


def _write_shards(folder: Path, broken: int | None = None) -> None:
    """Seven files of three row groups of 13 images: units and epochs end in the middle of batches.

    broken: the file whose row 5 is no image.
    """
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    for number in range(7):
        values = [(number * 39 + row) % 256 for row in range(39)]
        images = [encoded(value) for value in values]
        if number == broken:
            images[5] = b"no image"
        table = pyarrow.table({"image": images, "label": [value % 3 for value in values]})
        parquet.write_table(table, folder / f"{number}.parquet", row_group_size=13)


def trained_without_ray(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """The same run in this process, its shards read one after another without Ray."""

    def pipeline(self: StreamedBatches, tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        reader = _Reader(self.spec, self.info, self.units, self.reserved)
        for task in tasks:
            yield from reader({key: [value] for key, value in task.items()})

    monkeypatch.setattr(StreamedBatches, "_pipeline", pipeline)
    found = cached_stream(config.data, config.evaluation)
    batches = StreamedBatches(config.data, found, config.seed)
    single = Trainer(config.train, found.info, batches=batches)
    train(single)
    return single


def _train(folder: Path, *options: str) -> subprocess.Popen[str]:
    return start_tune(folder, "train", "--config", "settings.yaml", "--name", "stream", *options)


def _worker_of(driver: int) -> int:
    """The training process among the descendants of `driver`."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue
    found = [driver]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    (worker,) = (process for process in found if titles.get(process, "").startswith("ray::RayTrainWorker"))
    return worker


def _wait_for(log: Path, images: int, process: subprocess.Popen[str]) -> None:
    """Until so many images are logged."""
    deadline = time.monotonic() + 240
    while not (log.exists() and _logged(log) >= images):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run did not get so far"
        time.sleep(0.01)


def _logged(log: Path) -> int:
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    return int(json.loads(lines[-1])["images"]) if lines else 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the worker in /proc")
def test_a_killed_worker_and_a_killed_driver_of_a_stream_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_shards(tmp_path / "shards")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    folder = tmp_path / "runs" / "stream"
    log = folder / "metrics.jsonl"
    process = _train(tmp_path)
    _wait_for(log, 16 * 60, process)
    os.kill(_worker_of(process.pid), signal.SIGKILL)
    _wait_for(log, 16 * 400, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=100)
    assert not (folder / "result.json").exists(), "the run had ended before its driver was killed"
    again = _train(tmp_path)
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    result = json.loads((folder / "result.json").read_text())
    assert 16 * 60 <= result["resumed_at"] < result["images"] == 16 * 1500
    monkeypatch.chdir(tmp_path)
    single = trained_without_ray(RunConfig.model_validate(SETTINGS), monkeypatch)
    assert result["loss"] == single.loss
    weights = checkpoints.read(result["checkpoint"]).tensors["model"]
    assert all(torch.equal(weights[name], value) for name, value in single.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_corrupt_image_of_a_stream_ends_the_run_or_is_skipped_by_its_name(tmp_path: Path) -> None:
    _write_shards(tmp_path / "shards", broken=4)
    # Two workers and more than one epoch: each finds its own corrupt images, and more than once.
    settings = {**SETTINGS, "images": 16 * 40}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    refused = _train(tmp_path)
    out, _ = refused.communicate(timeout=300)
    assert refused.returncode == 1, out
    told = "shards must hold readable images, but cannot read 4.parquet row 5 (UnidentifiedImageError)"
    assert told in out.splitlines()[-1], out
    skipping = _train(tmp_path, "--set", "data.corrupt=skip", "--name", "skipping", "--num-workers", "2")
    out, _ = skipping.communicate(timeout=300)
    assert skipping.returncode == 0, out
    assert "1 corrupt images were skipped: 4.parquet row 5 (UnidentifiedImageError)" in out
    folder = tmp_path / "runs" / "skipping"
    assert (folder / "corrupt_images.txt").read_text() == "4.parquet row 5 (UnidentifiedImageError)\n"
