"""A run in the process of its command: how it ends, and what an interruption leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.distributed import in_process, stops
from curriculum_ray.distributed.fit import TrainingFailed, fit
from curriculum_ray.distributed.in_process import trains_in_process
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import ERROR_FILE
from curriculum_ray.runs.jobs import Event, Finished, Progress, Started
from curriculum_ray.runs.log import logged
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.trainer import Trainer
from tests.distributed.jobs import SMALL, weights

SETTINGS: dict[str, Any] = {**SMALL, "images": 16 * 96, "schedule": {"version": 1}}
Interrupted = tuple[Callable[[], None], threading.Event]


def _config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate({**SETTINGS, **changes})


def test_an_interrupted_run_keeps_a_checkpoint_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    events: list[Event] = []
    threads = torch.get_num_threads()
    whole = fit(_config(), tmp_path / "whole", ResourceSpec(), events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert torch.get_num_threads() == threads

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(_config(), tmp_path / "run", ResourceSpec(), interrupt)
    resumed = fit(_config(), tmp_path / "run", ResourceSpec())
    assert 0 < resumed.resumed_at < whole.images
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupted]:
    """Starts a run that Ctrl-C interrupts at its first log line, after which it waits for the event, or the end."""
    go, step = threading.Event(), Trainer.step

    def waiting(trainer: Trainer) -> None:
        if trainer.images == 160:
            go.wait(60)
        step(trainer)

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    def start() -> None:
        with pytest.raises(KeyboardInterrupt):
            fit(_config(), tmp_path, ResourceSpec(), interrupt)

    monkeypatch.setattr(Trainer, "step", waiting)
    yield start, go
    go.set()
    for thread in threading.enumerate():
        if thread.name == "training":
            thread.join()


def test_a_run_stops_at_the_log_line_after_ctrl_c(
    interrupted: Interrupted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start, go = interrupted
    wait = in_process.await_stop
    monkeypatch.setattr(in_process, "await_stop", lambda *run: (go.set(), wait(*run)))
    start()
    assert [path.name for path in checkpoints.find_checkpoints(tmp_path)] == [
        checkpoints.checkpoint_name("run", images) for images in (320, 160)
    ]
    assert [line.images for line in logged(tmp_path)] == [160, 320]
    assert "did not stop in time" not in caplog.text


def test_a_run_that_does_not_stop_in_time_is_left_and_the_command_says_where_it_resumes(
    interrupted: Interrupted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stops, "STOP_S", 0.4)
    monkeypatch.setattr(stops, "_QUIET_S", 0.2)
    start, _ = interrupted
    start()
    assert [path.name for path in checkpoints.find_checkpoints(tmp_path)] == [
        checkpoints.checkpoint_name("run", 160)
    ]
    assert caplog.messages[-1] == "run did not stop in time: it resumes from its checkpoint after 160 images"


@pytest.mark.parametrize("error", ["ValueError", "SystemExit"])
def test_a_run_that_cannot_go_on_fails_with_the_reason_and_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    def broken(*_: Any) -> None:
        raise {"ValueError": ValueError, "SystemExit": SystemExit}[error]("no such network")

    monkeypatch.setattr("curriculum_ray.distributed.in_process.run_job", broken)
    with pytest.raises(TrainingFailed, match=f"{error}: no such network"):
        fit(_config(), tmp_path, ResourceSpec())
    assert "no such network" in (tmp_path / ERROR_FILE).read_text()


def test_what_fails_before_the_run_begins_is_raised_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'threadpoolctl'", name="threadpoolctl")

    monkeypatch.setattr("threadpoolctl.threadpool_limits", missing)
    with pytest.raises(ModuleNotFoundError, match="threadpoolctl"):
        fit(_config(), tmp_path, ResourceSpec())


def test_what_needs_ray_does_not_run_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ResourceSpec()
    assert trains_in_process(_config(), alone)
    assert not trains_in_process(_config(), ResourceSpec(num_workers=2))
    assert not trains_in_process(_config(), ResourceSpec(isolate=True))
    later = {"every_images": 64, "num_samples": 32, "asynchronous": True}
    assert not trains_in_process(_config(preview=later, evaluation={"num_samples": 64, "steps": 2}), alone)
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", "auto")
    assert not trains_in_process(_config(), alone)
