"""Runs as a board takes them, and what comes of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from curriculum_ray.distributed.job import run_job
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Assignment, Event, Job, Progress
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.world import World

SMALL: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "log_every_images": 64,
    "checkpoint": {"every_images": 64},
    "model": {"base_channels": 8},
    "schedule": {
        "version": 1,
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 2},
    },
}
"""Settings of a run that changes stage, without its images."""


def as_job(folder: Path, key: str, config: RunConfig, pack: str | None = None) -> Job:
    """The job of a run whose results go to `folder / key`."""
    return replace(Job.of(key, config, folder / key), pack=pack)


class _Crash(Exception):
    """Ends a run as a crash would."""


def run_up_to(task: Assignment, stop_at: int | None = None) -> tuple[Any, list[Progress]]:
    """Run a job, up to a crash after the checkpoint at `stop_at` images; returns result and reports."""
    reports: list[Progress] = []

    def announce(path: Path | None, _: dict[str, Any]) -> None:
        if stop_at is not None and path is not None and path.name.endswith(f"{stop_at:012d}"):
            raise _Crash

    try:
        result = run_job(task, World(), lambda progress: bool(reports.append(progress)), announce)
    except _Crash:
        result = None
    return result, reports


def progress(images: int, stage: int = 0, num_stages: int = 1, total_images: int = 1000) -> Progress:
    """The report of a run that has seen so many images."""
    return Progress(
        images=images,
        loss=0.5,
        stage=stage,
        num_stages=num_stages,
        images_per_second=1.0,
        total_images=total_images,
        snapshot={},
    )


def wait(board: Any, key: str, *kinds: type[Event], seconds: float = 120.0) -> list[Event]:
    """All events of a job up to the first of `kinds`."""
    import ray

    seen: list[Event] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen += ray.get(board.events.remote(key, len(seen), 2.0))
        if any(isinstance(event, kinds) for event in seen):
            return seen
    raise AssertionError(f"{key} had no {kinds} in {seconds} s, but {seen[-3:]}")


def training_processes() -> list[int]:
    """Workers of the Ray that this process started, and of no other on the machine."""
    own = psutil.Process().children(recursive=True)
    titles = {process.pid: " ".join(process.as_dict(["cmdline"])["cmdline"] or []) for process in own}
    return [pid for pid, title in titles.items() if "RayTrainWorker" in title]


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    """The network's weights at the end of a run, by name."""
    return dict(checkpoints.read(result.checkpoint).tensors["model"])
