"""Runs as a board takes them, and what comes of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

from curriculum_ray.runs.config import RunConfig


def as_job(folder: Path, key: str, config: RunConfig, **more: Any) -> dict[str, Any]:
    """The job of a run whose results go to `folder / key`."""
    return {
        "key": key,
        "config": config.model_dump(mode="json"),
        "folder": str(folder / key),
        "resume_from": [],
        **more,
    }


def wait(board: Any, key: str, kinds: tuple[str, ...], seconds: float = 120.0) -> list[dict[str, Any]]:
    """All events of a job up to the first of `kinds`."""
    import ray

    seen: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen += ray.get(board.events.remote(key, len(seen), 2.0))
        if any(event["kind"] in kinds for event in seen):
            return seen
    raise AssertionError(f"{key} had no {kinds} in {seconds} s, but {seen[-3:]}")


def training_processes() -> list[int]:
    """Workers of the Ray that this process started, and of no other on the machine."""
    own = psutil.Process().children(recursive=True)
    titles = {process.pid: " ".join(process.as_dict(["cmdline"])["cmdline"] or []) for process in own}
    return [pid for pid, title in titles.items() if "RayTrainWorker" in title]
