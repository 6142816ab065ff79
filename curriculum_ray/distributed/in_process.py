"""One run on one worker of this machine, in this process: Ray Train's local mode.

A Ray of its own, its controller and its worker would take longer to start than a small model takes to learn. What is
lost is that a worker which the system kills is replaced: the command ends, and run again it resumes.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.distributed.job import run_job
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.stops import await_stop
from curriculum_ray.distributed.threads import worker_threads
from curriculum_ray.distributed.worker import announce_nothing, note_failure, reason_of
from curriculum_ray.logs import captured
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.failures import worker_log
from curriculum_ray.runs.jobs import Assignment, End, Event, Failed, Finished, Job, Progress, Started, Stopped
from curriculum_ray.runs.run_copy import fetch_log, send_log
from curriculum_ray.training.profile_spec import ProfiledSteps
from curriculum_ray.training.world import World

__all__ = ["train_in_process", "trains_in_process"]


def trains_in_process(config: RunConfig, resources: ResourceSpec) -> bool:
    """Whether a run needs no Ray: one worker on this machine, and neither Ray Data nor Ray tasks."""
    return (
        resources.workers == (1, 1)
        and not resources.isolate
        and resources.accelerator_type is None
        and not os.environ.get("RAY_ADDRESS")
        and not config.data.streamed
        and not (config.preview and config.preview.asynchronous)
    )


def train_in_process(
    config: RunConfig,
    folder: Path,
    resources: ResourceSpec,
    on_event: Callable[[Event], None],
    key: str,
    profile: ProfiledSteps | None = None,
    copy: WorkingCopy | None = None,
) -> End:
    """Train `config`, with its checkpoints in `folder`, and return how it ended.

    Training has a thread of its own, whose prints go into a file in `folder` alone. `on_event` is called in the
    caller's; an exception there, such as a KeyboardInterrupt, asks the run to stop at its next log line, and is raised
    when it has written its checkpoint, or is late: see `await_stop`.
    """
    events: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
    stop, ended = threading.Event(), threading.Event()
    job = Job.of(key, config, folder, profile=profile, copy=copy).assigned(folder)

    def run() -> None:
        try:
            events.put(_run(job, resources, events.put, stop))
        except Exception as error:  # not the run's: what is needed to start it fails
            events.put(error)
        finally:
            ended.set()

    def late(seconds: float) -> list[Job]:
        return [] if ended.wait(seconds) else [job]  # a thread whose join is interrupted seems to have ended

    thread = threading.Thread(target=run, name="training", daemon=True)
    fetch_log(job, 0)
    try:
        with captured([worker_log(folder, 0)], thread):
            thread.start()
            try:
                while True:
                    event = events.get()
                    if isinstance(event, Exception):
                        raise event
                    on_event(event)
                    if isinstance(event, End):
                        return event
            except BaseException:
                stop.set()
                await_stop(late, [folder])
                raise
    finally:
        send_log(job, 0)


def _run(
    job: Assignment, resources: ResourceSpec, tell: Callable[[Event], None], stop: threading.Event
) -> End:
    """Run the job through Ray Train, as a worker with these resources would."""
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import ScalingConfig

    device = torch.device("cuda", 0) if resources.use_gpu else torch.device("cpu")
    ended: list[End] = []

    def report(progress: Progress) -> bool:
        tell(progress)
        return stop.is_set()

    def work() -> None:
        tell(Started(attempt=1))
        try:
            result = run_job(job, World(device=device), report, announce_nothing)
        except (Exception, SystemExit) as error:
            note_failure(job, error)
            ended.append(Failed(reason=reason_of(error)))
        else:
            ended.append(Stopped() if result is None else Finished(result=result))

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    with worker_threads(resources):
        TorchTrainer(work, scaling_config=ScalingConfig(num_workers=0)).fit()
    return ended[0]
