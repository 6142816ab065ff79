"""A run in the process of its command: how it ends, and what an interruption leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.distributed.fit import TrainingFailed, fit
from curriculum_ray.distributed.in_process import trains_in_process
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import ERROR_FILE
from curriculum_ray.runs.jobs import Event, Finished, Progress, Started
from tests.distributed.jobs import SMALL, weights

SETTINGS: dict[str, Any] = {**SMALL, "images": 16 * 96, "schedule": {"version": 1}}


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
