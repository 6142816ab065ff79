"""One training run on its own, in this process where that is enough, else as a search's trials: slot, board and job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.in_process import train_in_process, trains_in_process
from curriculum_ray.distributed.ingest import share_stream
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import End, Event, Failed, Finished, Job
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.profile_spec import ProfiledSteps

__all__ = ["TrainingFailed", "fit"]


class TrainingFailed(RuntimeError):
    """A run could not be finished; the message is the reason in one line.

    folder: the run's, with the traceback and the workers' logs; None where there is none.
    """

    def __init__(self, reason: str, folder: Path | None = None) -> None:
        super().__init__(reason)
        self.folder = folder


def fit(
    config: RunConfig,
    folder: Path,
    resources: ResourceSpec,
    on_event: Callable[[Event], None] = lambda event: None,
    key: str = "run",
    profile: ProfiledSteps | None = None,
    copy: WorkingCopy | None = None,
) -> RunResult:
    """Train `config` through a TorchTrainer and return its result.

    Checkpoints go into `folder`; the run resumes from the newest one there that has the same settings. It needs a
    connection to Ray, and survives the deaths of workers, unless `trains_in_process`. `on_event` is called on starts,
    progress and the end. profile: the steps that are recorded. copy: where `folder` is in the working copy of a bucket.
    Raises TrainingFailed.
    """
    if trains_in_process(config, resources):
        return _result(train_in_process(config, folder, resources, on_event, key, profile, copy), folder)
    import ray

    board = create_board()
    ray.get(board.submit.remote(Job.of(key, config, folder, profile=profile, copy=copy)))
    seen = 0
    with Slots(board, [folder], resources, share_stream(config), copy=copy):
        while True:
            events: list[Event] = ray.get(board.events.remote(key, seen, 5.0))
            seen += len(events)
            for event in events:
                on_event(event)
                if isinstance(event, Finished | Failed):
                    return _result(event, folder)


def _result(end: End, folder: Path) -> RunResult:
    if isinstance(end, Finished):
        return end.result
    raise TrainingFailed(end.reason if isinstance(end, Failed) else "it was stopped", folder)
