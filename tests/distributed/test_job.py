"""One run in a worker: what it leaves, what it survives, and what it resumes from."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, InMemoryBatches, load_data
from curriculum_ray.distributed import job
from curriculum_ray.evaluation.trained import load_trained, resolve_checkpoint
from curriculum_ray.runs import log, preview
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Progress
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training import ema_posthoc
from curriculum_ray.training.trainer import NonFiniteLoss, Trainer
from curriculum_ray.training.world import World
from tests.distributed.jobs import as_job, run_up_to
from tuning.cli.ema import ema

SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "images": 16 * 12,
    "window": 2,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64, "keep": 3},
    "model": {"base_channels": 8},
    "schedule": {"version": 1, "clusters": {"by": "uniform", "count": 3}},
}
SCORED: dict[str, Any] = {
    "evaluation": {"num_samples": 64, "steps": 2},
    "preview": {"every_images": 64, "num_samples": 32},
    "checkpoint": {"every_images": 64, "keep": 3, "best": True},
}


def _run(place: Path, stop_at: int | None = None, **changes: Any) -> tuple[Any, list[Progress]]:
    """Run a job in `place`, up to a crash after the checkpoint at `stop_at` images; returns result and reports."""
    config = RunConfig.model_validate({**SETTINGS, **changes})
    return run_up_to(as_job(place, "run", config).assigned(place / "slot"), stop_at)


def _weights(result: RunResult) -> dict[str, torch.Tensor]:
    return dict(checkpoints.read(result.checkpoint).tensors["model"])


@pytest.mark.parametrize("fault", ["flip", "truncate"])
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    whole, _ = _run(tmp_path / "whole")
    _run(tmp_path, stop_at=128)
    newest = checkpoints.find_checkpoints(tmp_path / "slot", "run")[0]
    file = newest / "optimizer.safetensors"
    payload = file.read_bytes()
    flipped = payload[:-9] + bytes([payload[-9] ^ 4]) + payload[-8:]
    file.write_bytes(flipped if fault == "flip" else payload[: len(payload) // 2])
    caplog.clear()
    result, _ = _run(tmp_path)
    said = [line for line in caplog.messages if line.startswith("skipped")]
    assert len(said) == 1
    assert str(newest) in said[0]
    assert result.resumed_at == 64
    ours, theirs = _weights(result), _weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_command_takes_the_newest_sound_checkpoint_of_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, _ = _run(tmp_path)
    newest = Path(result.checkpoint)
    older = newest.with_name(checkpoints.checkpoint_name("run", 64))
    checkpoints.write(older, checkpoints.read(newest))
    assert resolve_checkpoint(newest.parent) == newest
    file = newest / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert resolve_checkpoint(newest.parent) == older
    assert f"skipped: checkpoint {newest} is corrupt" in caplog.text
    (older / "ema.safetensors").unlink()
    with pytest.raises(ConfigError, match="holds no readable checkpoint"):
        resolve_checkpoint(newest.parent)


def test_a_run_that_stops_below_a_damaged_checkpoint_resumes_where_it_stopped(tmp_path: Path) -> None:
    config = RunConfig.model_validate({**SETTINGS, "checkpoint": {"every_images": 64, "keep": 1}})
    task = as_job(tmp_path, "run", config).assigned(tmp_path / "slot")

    def run_until(images: int) -> Any:
        return job.run_job(task, World(), lambda progress: progress.images >= images, lambda *_: None)

    assert run_until(160) is None
    (kept,) = checkpoints.find_checkpoints(tmp_path / "slot", "run")
    assert kept.name == checkpoints.checkpoint_name("run", 160)
    (kept / "model.safetensors").unlink()
    assert run_until(96) is None
    assert run_until(192).resumed_at == 96


@pytest.mark.parametrize("warned", [False, True])
def test_a_preview_and_a_snapshot_due_at_a_stop_or_a_warning_are_made_before_the_checkpoint(
    tmp_path: Path, warned: bool
) -> None:
    changes = {
        "preview": {"every_images": 32, "metric": False, "num_samples": 16},
        "ema": {"power": {"sigma_rels": [0.1], "every_images": 32}},
        "checkpoint": {"every_images": 192},
    }
    config = RunConfig.model_validate({**SETTINGS, **changes})

    def made(place: Path) -> list[str]:
        return sorted(
            path.name for part in ("previews", "snapshots") for path in (place / "run" / part).glob("*")
        )

    def run(place: Path, images: int) -> Any:
        """Run until so many images: a stop, or a warning and a crash right after its checkpoint."""
        task = as_job(place, "run", config).assigned(place / "slot")
        images_now = 0

        def report(progress: Progress) -> bool:
            nonlocal images_now
            images_now = progress.images
            return not warned and images_now == images

        def announce(path: Path | None, _: dict[str, Any]) -> None:
            if images_now == images:
                raise KeyboardInterrupt

        try:
            return job.run_job(task, World(), report, announce, lambda: warned and images_now == images)
        except KeyboardInterrupt:
            return None

    assert run(tmp_path / "whole", 0).images == 192
    assert run(tmp_path, 96) is None
    assert run(tmp_path, 0).resumed_at == 96
    assert len(made(tmp_path)) == 12
    assert made(tmp_path) == made(tmp_path / "whole")


def _full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_on_the_way_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = checkpoints._write_flushed

    def write(path: Path, payload: bytes) -> None:
        _full_disk() if "000000000128" in str(path) else flushed(path, payload)

    monkeypatch.setattr(checkpoints, "_write_flushed", write)
    result, _ = _run(tmp_path)
    said = caplog.messages
    assert [line for line in said if "No space left on device" in line and "000000000128" in line] == said
    assert len(said) == 1
    assert result.images == 192


@pytest.mark.parametrize(
    "part", ["log", *(pytest.param(part, marks=pytest.mark.slow) for part in ("snapshot", "preview"))]
)
def test_a_full_disk_costs_a_line_a_snapshot_or_a_picture_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    if part == "log":
        monkeypatch.setattr(log, "open", _full_disk, raising=False)
    elif part == "snapshot":
        monkeypatch.setattr(ema_posthoc, "replace_file", _full_disk)
    else:
        monkeypatch.setattr(preview, "save_grid", _full_disk)
    power = {"sigma_rels": [0.1], "every_images": 96}
    result, _ = _run(tmp_path, ema={"power": power}, preview={"every_images": 96, "metric": False})
    said = [line for line in caplog.messages if "was not written" in line]
    assert len(said) == (6 if part == "log" else 2)
    assert all("No space left on device" in line for line in said)
    assert result.images == 192


def test_averages_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    config = RunConfig.model_validate({**SETTINGS, "ema": {"power": {"sigma_rels": [0.1]}}})
    trainer = Trainer(config.train, load_data(config.data))
    trainer.step()
    assert trainer.snapshot()
    with torch.no_grad():
        next(iter(trainer.parameters.values())).fill_(math.nan)
    with pytest.raises(NonFiniteLoss, match="not a number before 16 images"):
        trainer.snapshot()


def test_a_torn_line_of_the_log_is_left_out_and_does_not_stop_a_resume(tmp_path: Path) -> None:
    _run(tmp_path, stop_at=128)
    path = tmp_path / "run/metrics.jsonl"
    path.write_text(path.read_text() + '{"images": 128, "preview": {"fid": 3}')
    assert [line.images for line in log.logged(tmp_path / "run")] == [32, 64, 96, 128]
    result, _ = _run(tmp_path)
    assert result.resumed_at == 128
    assert [json.loads(line)["images"] for line in path.read_text().splitlines()] == [
        32 * n for n in range(1, 7)
    ]


@pytest.mark.parametrize(("free", "stays"), [(2**40, False), (2**10, True)])
def test_data_too_large_for_a_gpu_stay_in_the_hosts_memory(
    monkeypatch: pytest.MonkeyPatch, free: int, stays: bool
) -> None:
    data = load_data(DataSpec())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    assert job.stays_on_host(data, torch.device("cuda")) is stays
    assert not job.stays_on_host(data, torch.device("cpu"))


def test_captions_encoded_in_advance_count_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 4 * (load_data(DataSpec()).stored.nbytes + 1000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    data = load_data(DataSpec())
    small = replace(data, condition=None)
    large = replace(data, condition=torch.zeros(len(data), 3, 8))
    assert not job.stays_on_host(small, torch.device("cuda"))
    assert job.stays_on_host(large, torch.device("cuda"))


def test_a_full_disk_at_the_end_keeps_the_checkpoints_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, stop_at=128)
    before = checkpoints.find_checkpoints(tmp_path / "slot", "run")
    monkeypatch.setattr(checkpoints, "_write_flushed", _full_disk)
    with pytest.raises(checkpoints.CheckpointNotWritten, match="No space left on device; earlier ones"):
        _run(tmp_path)
    assert checkpoints.find_checkpoints(tmp_path / "slot", "run") == before
    assert all(checkpoints.read(path) for path in before)
    assert not list(tmp_path.rglob("*.tmp"))


def test_previews_change_nothing_are_kept_on_resume_and_choose_the_best(tmp_path: Path) -> None:
    plain, _ = _run(tmp_path / "plain", evaluation=SCORED["evaluation"])
    whole, reports = _run(tmp_path / "whole", **SCORED)
    ours, theirs = _weights(whole), _weights(plain)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert whole.metrics == plain.metrics
    assert [images for images, _ in whole.history] == [64, 128, 192]
    assert [report.preview.images for report in reports if report.preview] == [64, 128, 192]
    assert all((tmp_path / f"whole/run/previews/{images:012d}.png").exists() for images in (64, 128, 192))
    _run(tmp_path, stop_at=128, **SCORED)
    resumed, _ = _run(tmp_path, **SCORED)
    assert resumed.resumed_at == 128
    assert resumed.history == whole.history
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "preview" in line] == [64, 128, 192]
    assert all({"fid", "kid"} <= metrics.keys() for _, metrics in resumed.history)
    lowest = min(whole.history, key=lambda point: point[1]["fid"])[0]
    assert load_trained(tmp_path / "run/best").images == lowest


@pytest.mark.slow
def test_a_task_draws_the_same_previews_while_the_training_goes_on(ray_of_two: None, tmp_path: Path) -> None:
    scored = {**SCORED, "checkpoint": SETTINGS["checkpoint"]}
    later = {**scored, "preview": {**scored["preview"], "asynchronous": True}}
    whole, _ = _run(tmp_path / "whole", **scored)
    _run(tmp_path, stop_at=128, **later)
    # The preview of the last checkpoint's moment was still under way when the run ended.
    (tmp_path / "run/previews/000000000128.png").unlink(missing_ok=True)
    kept = [line for line in log.logged(tmp_path / "run") if line.preview is None or line.images < 128]
    log.log_of(tmp_path / "run").write_text("".join(line.to_json() + "\n" for line in kept))
    result, reports = _run(tmp_path, **later)
    assert result.resumed_at == 128
    ours, theirs = _weights(result), _weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert [images for images, _ in result.history] == [64, 128, 192]
    for (_, mine), (_, other) in zip(result.history, whole.history, strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert [report.preview.images for report in reports if report.preview] == [128, 192]
    assert all((tmp_path / f"run/previews/{images:012d}.png").exists() for images in (64, 128, 192))


def test_a_preview_whose_task_fails_is_lost_and_the_training_is_not(
    ray_of_two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(config: dict[str, Any], weights: dict[str, Any]) -> None:
        raise MemoryError("no room for samples")

    monkeypatch.setattr(preview, "_draw_from", broken)
    checkpoint = SETTINGS["checkpoint"]
    asynchronous = {**SCORED["preview"], "asynchronous": True}
    result, _ = _run(tmp_path, **{**SCORED, "checkpoint": checkpoint, "preview": asynchronous})
    assert result.images == 192
    assert result.history == ()
    said = [line for line in caplog.messages if "is lost" in line]
    assert [line.split(" is lost: ")[0] for line in said] == [
        f"the preview after {images} images" for images in (64, 128, 192)
    ]
    assert "no room for samples" in said[0]


def test_a_stream_is_read_ahead_and_gives_what_the_same_data_in_memory_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(RunConfig().data)
    readers: set[str] = set()

    class Source(InMemoryBatches):
        def next(self, *place: Any) -> Any:
            readers.add(threading.current_thread().name)
            return super().next(*place)

    monkeypatch.setattr(
        job,
        "open_batches",
        lambda config, told, *_: (data, Source(data, config.seed, torch.device("cpu"), told)),
    )
    streamed = {"data": {"name": str(tmp_path), "format": "parquet", "image_size": 8}}
    whole, _ = _run(tmp_path / "memory")
    _run(tmp_path, stop_at=128, **streamed)
    result, _ = _run(tmp_path, **streamed)
    assert result.resumed_at == 128
    assert readers
    assert all(name.startswith("prefetch") for name in readers)
    assert not readers & {thread.name for thread in threading.enumerate()}, "a run ends its reader"
    ours, theirs = _weights(result), _weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_metric_without_an_evaluation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preview\.metric is on, but evaluation is null"):
        RunConfig.model_validate({**SETTINGS, "preview": {}})
    with pytest.raises(ValueError, match=r"checkpoint\.best needs the preview's metric"):
        RunConfig.model_validate({**SETTINGS, "checkpoint": {"best": True}})
    with pytest.raises(ValueError, match="gone when an asynchronous preview is scored"):
        RunConfig.model_validate({**SCORED, "preview": {"asynchronous": True}})
    with pytest.raises(ValueError, match=r"num_gpus is for previews that are asynchronous, but got 0\.5"):
        RunConfig.model_validate({**SCORED, "preview": {"num_gpus": 0.5}})


def test_an_average_of_another_width_is_rebuilt_into_a_checkpoint_that_loads(tmp_path: Path) -> None:
    _run(tmp_path, ema={"power": {"sigma_rels": [0.05, 0.2], "every_images": 32, "dtype": "fp32"}})
    output = tmp_path / "average"
    arguments = ["--run", str(tmp_path / "run"), "--sigma-rel", "0.2", "--into", str(output)]
    done = CliRunner().invoke(ema, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    last = checkpoints.find_checkpoints(tmp_path / "run", "run")[0]
    kept = checkpoints.read(last).tensors["power"]
    loaded = load_trained(output)
    for name, value in loaded.model.named_parameters():
        torch.testing.assert_close(value.detach(), kept[f"1/{name}"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="--into must be a new or empty folder"):
        CliRunner().invoke(ema, arguments, catch_exceptions=False)
    (tmp_path / "empty").mkdir()
    arguments[-1] = str(tmp_path / "empty")
    assert CliRunner().invoke(ema, arguments, catch_exceptions=False).exit_code == 0
    arguments[-1] = str(tmp_path / "other")
    _run(tmp_path / "without")
    arguments[1] = str(tmp_path / "without" / "run")
    with pytest.raises(ConfigError, match="no snapshots"):
        CliRunner().invoke(ema, arguments, catch_exceptions=False)
