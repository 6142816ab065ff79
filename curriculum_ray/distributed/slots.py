"""Slots: long-lived workers of Ray Train that serve one job after another, so that a job costs no process start.

A slot is a Ray Train run with all the workers that a job gets. On one machine, if each job has one worker, all slots
are workers of one Ray Train run: they start together and share its controller. Where runs are isolated, each Ray Train
run serves one job, and the slot starts another for the next; where runs leak memory, workers are replaced once they
have leaked too much.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from curriculum_ray import logs
from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import BucketError
from curriculum_ray.config.shown import one_line
from curriculum_ray.distributed.places import WorkerPlaces
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.stops import await_stop
from curriculum_ray.distributed.worker import serve

__all__ = ["Slots", "are_together", "slots_left", "torch_trainer"]

_LOG = logging.getLogger(__name__)

_MAX_RESTARTS = 100
_RESIZE_SECONDS = 60.0
_LEAK_GIB = 2.0
_THREADS = "curriculum-ray-slot-"
_SNAPSHOT = "checkpoint_manager_snapshot.json"


def torch_trainer(
    board: Any,
    slot: int,
    folders: list[Path],
    resources: ResourceSpec,
    stream: Any = None,
    pack: int = 1,
    copy: WorkingCopy | None = None,
    node: str | None = None,
    pieces: int = 0,
) -> Any:
    """A TorchTrainer whose workers serve the board's jobs, only one if isolated; `folders` hold their checkpoints.

    A single folder belongs to the slot numbered `slot`; of several, each belongs to one worker, which is a slot,
    numbered from `slot` on. stream: what `share_stream` returned for the jobs' data. pack: how many jobs are trained at
    a time. copy: where the folders are in the working copy of a bucket: on a cluster, Ray Train's own files are then in
    the bucket, where all nodes see them. node: where its controller runs, by Ray's id; None for this one. pieces: see
    `World`.

    If a worker dies, the group restarts and resumes its job from the job's own checkpoints. Ray's record of the
    checkpoints of an earlier session is not needed for that, and is deleted.
    """
    from ray.train.v2.api.config import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
    )

    from curriculum_ray.distributed.backend import OneEach, OneGroup
    from curriculum_ray.distributed.light_trainer import LightTrainer

    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
        (each / _SNAPSHOT).unlink(missing_ok=True)
    storage: dict[str, Any] = {"storage_path": str(folders[0].parent)}
    if copy is not None and os.environ.get("RAY_ADDRESS"):
        copy.there(folders[0]).remove(_SNAPSHOT)
        found, path = copy.there(folders[0].parent).place
        storage = {"storage_path": path, "storage_filesystem": found}
    together = len(folders) > 1
    # Ray's own annotations name the older class of the same name.
    run_config: Any = RunConfig(
        name=folders[0].name,
        **storage,
        failure_config=FailureConfig(max_failures=_MAX_RESTARTS * len(folders)),
        checkpoint_config=CheckpointConfig(num_to_keep=None),
        logging_config=LoggingConfig(log_level="ERROR"),
    )
    return LightTrainer(
        board,
        slot,
        node,
        serve,
        train_loop_config={
            "board": board,
            "slot": slot,
            "folders": [str(folder) for folder in folders],
            "jobs": 1 if resources.isolate else None,
            "pack": pack,
            "leak_gib": resources.leak_gib or _LEAK_GIB,
            "stream": stream,
            "pieces": pieces,
            "log_level": logs.level(),
        },
        scaling_config=ScalingConfig(
            num_workers=len(folders) if together else resources.num_workers,
            elastic_resize_monitor_interval_s=resources.resize_seconds or _RESIZE_SECONDS,
            use_gpu=resources.use_gpu,
            resources_per_worker=resources.per_worker,
        ),
        run_config=run_config,
        torch_config=OneEach() if together else OneGroup(),
    )


class Slots:
    """Slots that serve `board` from background threads of the driver, one for each folder.

    A slot lives until the board closes: where its Ray Train run fails, it starts another, if jobs were taken since the
    failure before. One that cannot go on leaves its jobs to the others. When the last slot has died, every unfinished
    and every later job fails with the reason. As a context manager it closes at the end; a slot that finds no room to
    start is left, see `slots_left`.
    """

    patience_s = 120.0
    """Seconds that runs get to stop, and starting workers to start and exit, when it closes."""

    def __init__(
        self,
        board: Any,
        folders: list[Path],
        resources: ResourceSpec,
        stream: Any = None,
        pack: int = 1,
        copy: WorkingCopy | None = None,
        pieces: int | None = None,
    ) -> None:
        """stream: what `share_stream` returned for the jobs' data.

        pack: how many jobs, of one worker each, a slot takes and trains at a time. copy: see `torch_trainer`. pieces:
        see `World`; None for those of the range of workers in `resources`.
        """
        # Imported before there are threads: what walks through all modules meanwhile, e.g. to pickle, would fail.
        from curriculum_ray.distributed import light_trainer  # noqa: F401

        self.board, self._stream, self._pack, self._copy = board, stream, pack, copy
        self._folders = folders
        self._pieces = resources.pieces if pieces is None else pieces
        self._closing, self._closed = threading.Event(), threading.Event()
        self._places = WorkerPlaces(board, resources, self._closing)
        self._lock = threading.Lock()
        groups = [(0, folders)] if are_together(resources) else [(k, [one]) for k, one in enumerate(folders)]
        self._alive = len(groups)
        self._threads = [
            threading.Thread(
                target=self._run, args=(slot, group, resources), name=f"{_THREADS}{slot}", daemon=True
            )
            for slot, group in groups
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, slot: int, folders: list[Path], resources: ResourceSpec) -> None:
        import ray
        from ray.exceptions import ActorUnschedulableError, RayActorError

        reason, numbers = "its slot ended", list(range(slot, slot + len(folders)))
        try:
            failures = taken = 0
            while not self._closing.is_set():
                try:
                    self._fit(slot, folders, resources)
                except Exception as error:
                    # The board gives up a job that is taken too often, so this ends. A slot that took none starts again
                    # only if its controller was lost with a node, and its workers with it, or if its bucket was away.
                    before, taken = taken, ray.get(self.board.taken.remote(numbers))
                    failures = 1 if taken > before else failures + 1
                    lost = isinstance(error, RayActorError | ActorUnschedulableError | BucketError)
                    if taken == before and (not lost or failures > _MAX_RESTARTS):
                        raise
                    _LOG.warning("slot %d starts again: %s", slot, _reason_of(error))
                    continue
                there: bool | None = False
                while there is False:
                    there = ray.get(self.board.wait_for_job.remote(slot))
                if there is None:
                    break
        except Exception as error:
            _LOG.warning("slot %d ended", slot, exc_info=True)
            reason = f"its slot could not go on: {_reason_of(error)}"
        with self._lock:
            self._alive -= 1
            if self._closed.is_set():
                return
            if self._alive:
                ray.get(self.board.leave.remote(numbers))
            else:
                ray.get(self.board.fail_all.remote(reason))

    def _fit(self, slot: int, folders: list[Path], resources: ResourceSpec) -> None:
        """Start the slot's workers where there is room, and wait for their end."""
        import ray
        from ray.exceptions import ActorUnschedulableError, RayActorError
        from ray.util.placement_group import remove_placement_group

        with self._places.place(slot) as node:
            if self._closing.is_set():
                return
            trainer = torch_trainer(
                self.board, slot, folders, resources, self._stream, self._pack, self._copy, node, self._pieces
            )
            try:
                trainer.fit()
            except (RayActorError, ActorUnschedulableError):
                if (room := ray.get(self.board.leave_room.remote(slot))) is not None:
                    remove_placement_group(room)
                raise
            finally:
                ray.get(self.board.leave_room.remote(slot))

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the runs, each with a checkpoint, let the slots exit, and wait for them.

        Runs get some time to stop: see `await_stop`. A slot whose workers are starting exits when they have started.
        All that takes `patience_s` seconds at most.
        """
        import ray

        self._closing.set()
        end = time.monotonic() + self.patience_s
        try:
            await_stop(lambda seconds: ray.get(self.board.stop_all.remote(seconds)), self._folders)
            ray.get(self.board.close.remote())
        finally:
            self._closed.set()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))


def _reason_of(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", 300)


def are_together(resources: ResourceSpec) -> bool:
    """Whether slots are workers of one Ray Train run.

    Not in a cluster: there each starts as soon as there is room for it, and is warned before its node is lost, which
    Ray Train does not support for independent workers.
    """
    return resources.workers == (1, 1) and not resources.isolate and not os.environ.get("RAY_ADDRESS")


def slots_left() -> bool:
    """Whether a slot of this process is still waiting for its workers, e.g. where a cluster has no room for them.

    Ray Train offers no way to end that wait. If Ray is shut down meanwhile, it ends the process with an error.
    """
    return any(thread.name.startswith(_THREADS) for thread in threading.enumerate())
