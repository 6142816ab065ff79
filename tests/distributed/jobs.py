"""Runs as a board takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curriculum_ray.distributed.config import RunConfig


def as_job(folder: Path, key: str, config: RunConfig, **more: Any) -> dict[str, Any]:
    """The job of a run whose results go to `folder / key`."""
    return {
        "key": key,
        "config": config.model_dump(mode="json"),
        "folder": str(folder / key),
        "resume_from": [],
        **more,
    }
