"""One training run on its own: the same slot, board and job as a search's trials, with one job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.ingest import train_datasets
from curriculum_ray.distributed.slots import ResourceSpec, Slots
from curriculum_ray.runs.config import RunConfig

__all__ = ["TrainingFailed", "fit"]


class TrainingFailed(RuntimeError):
    """A run could not be finished; the message is the reason in one line."""


def fit(
    config: RunConfig,
    folder: Path,
    resources: ResourceSpec,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    key: str = "run",
) -> dict[str, Any]:
    """Train `config` through a TorchTrainer, inside a connection to Ray, and return its result.

    Checkpoints go into `folder`; when it holds some of the same settings, the run goes on from the newest. Worker
    deaths are survived. `on_event` hears of starts, progress and the end. Raises TrainingFailed.
    """
    import ray

    board = create_board()
    job = {"key": key, "config": config.model_dump(mode="json"), "folder": str(folder), "resume_from": []}
    ray.get(board.submit.remote(job))
    seen = 0
    with Slots(board, [folder], resources, train_datasets(config.data)):
        while True:
            events = ray.get(board.events.remote(key, seen, 5.0))
            seen += len(events)
            for event in events:
                on_event(event)
                if event["kind"] == "finished":
                    return event["result"]
                if event["kind"] == "failed":
                    raise TrainingFailed(event["reason"])
