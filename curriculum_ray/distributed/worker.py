"""The loop of a Ray Train worker: takes jobs from the board, one or one pack at a time, until it closes."""

from __future__ import annotations

import gc
import logging
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curriculum_ray.distributed.ingest import take_stream
from curriculum_ray.distributed.job import clear_process_state, run_job
from curriculum_ray.distributed.leaks import MemoryWatch
from curriculum_ray.distributed.outages import storage_error
from curriculum_ray.distributed.pack import run_pack
from curriculum_ray.distributed.preemption import NodeWarning
from curriculum_ray.logs import captured, set_level
from curriculum_ray.runs.failures import worker_log
from curriculum_ray.runs.folder import ERROR_FILE
from curriculum_ray.runs.hooks import Announce, Report
from curriculum_ray.runs.jobs import Assignment, Failed, Finished, Job, Progress, Stopped
from curriculum_ray.runs.result import RunResult
from curriculum_ray.runs.run_copy import fetch_log, send_log
from curriculum_ray.training.exchange import process_group_exchange
from curriculum_ray.training.trainer import NonFiniteLoss
from curriculum_ray.training.world import World

__all__ = ["announce_nothing", "note_failure", "reason_of", "serve"]

_LOG = logging.getLogger(__name__)

_SELDOM_S = 2.0
"""Seconds since the report before, from which on a millisecond does not matter."""


def serve(settings: dict[str, Any]) -> None:
    """The train loop of a slot: "board" (an actor handle), "slot" (its number), "folders", "jobs", "pack",
    "leak_gib", "stream" (see `share_stream`), "pieces" (see `World`) and "log_level".

    With several folders, each worker is a slot and takes the folder of its rank; "slot" is the number of the first.
    "jobs" is how often to take jobs, None for until the board closes, and "pack" how many to take and train at a time,
    more than one only with a single worker; for "leak_gib" see `ResourceSpec`. "log_level" is a number of `logging`.

    All jobs share one process group and one set of imports. When the workers are restarted after a failure, the board
    serves the interrupted job again, and it resumes from its checkpoint.
    """
    import ray
    import ray.train.torch

    set_level(settings["log_level"])
    take_stream(settings["stream"])
    folders = [Path(folder) for folder in settings["folders"]]
    together = len(folders) > 1
    place = ray.train.get_context().get_world_rank() if together else 0
    board, slot, folder = settings["board"], settings["slot"] + place, folders[place]
    world = World(device=ray.train.torch.get_device()) if together else _world(settings["pieces"])
    announce = announce_nothing if together else _announce
    generation = _agree_on_number()
    # Imported objects are never freed: freezing them saves the collection after each job from visiting them.
    gc.collect()
    gc.freeze()
    index, most = 0, settings["pack"]
    warned, leaked = NodeWarning(), MemoryWatch(settings["leak_gib"])
    while (
        index != settings["jobs"] and (jobs := _take(board, world, slot, generation, index, most)) is not None
    ):
        index += 1
        taken = [job.assigned(folder) for job in jobs]
        for job in taken:
            fetch_log(job, world.rank)
        try:
            with captured([worker_log(job.folder, world.rank) for job in taken]):
                if len(taken) == 1:
                    _serve_one(board, taken[0], world, announce, warned)
                else:
                    _serve_pack(board, taken, world, announce, warned)
        finally:
            for job in taken:
                send_log(job, world.rank)
        clear_process_state()
        if leaked():
            ray.get(board.retire.remote(slot, generation))
            if together:
                raise _Leaked(f"runs have leaked over {settings['leak_gib']:g} GiB: a new process takes over")


def _take(board: Any, world: World, slot: int, generation: int, index: int, most: int) -> list[Job] | None:
    """The next jobs of the slot, see `Board.take`; every rank must call it, and waits until there are some.

    Rank 0 alone waits at the board, so that the calls that wait there do not grow with the ranks; the others then get
    the same jobs at once.
    """
    import ray

    jobs: list[Job] | None = []
    while world.rank == 0 and jobs == []:
        jobs = ray.get(board.take.remote(slot, generation, index, most))
        world.exchange.work()
    if not world.exchange.tell(b"" if jobs is None else b"there are some"):
        return None
    return jobs or ray.get(board.take.remote(slot, generation, index, most))


class _Leaked(Exception):
    """Ends a worker, so that Ray Train replaces it."""


def _serve_one(board: Any, job: Assignment, world: World, announce: Announce, warned: NodeWarning) -> None:
    import ray

    try:
        result = run_job(job, world, _Reporter(board, job.key), announce, warned)
    except Exception as error:
        note_failure(job, error)
        again = _may_be_a_lost_peer(error, world) or _is_of_ray(error) or storage_error(error) is not None
        if again:
            ray.get(board.record_death.remote(job.key, reason_of(error)))
        else:
            ray.get(board.end.remote(job.key, Failed(reason=reason_of(error))))
        if again or world.size > 1 or world.device.type != "cpu":
            raise
    else:
        if world.rank == 0:
            _note_end(board, job.key, result)


def _serve_pack(
    board: Any, jobs: list[Assignment], world: World, announce: Announce, warned: NodeWarning
) -> None:
    """Train jobs as a pack; an error of the pack is no particular job's, so each is then tried once more alone."""
    import ray

    left = {job.key: job for job in jobs}

    def ended(key: str, how: RunResult | Exception | None) -> None:
        job = left.pop(key)
        if isinstance(how, Exception):
            note_failure(job, how)
            ray.get(board.end.remote(key, Failed(reason=reason_of(how))))
        else:
            _note_end(board, key, how)

    reports: list[Report] = [_Reporter(board, key) for key in left]
    try:
        run_pack(jobs, world, reports, announce, ended, warned)
    except Exception:
        traceback.print_exc()
        ray.get(board.separate.remote(list(left)))
        if world.device.type != "cpu":
            raise


def _note_end(board: Any, key: str, result: RunResult | None) -> None:
    import ray

    ray.get(board.end.remote(key, Stopped() if result is None else Finished(result=result)))


def reason_of(error: BaseException) -> str:
    """The reason of a failure, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _may_be_a_lost_peer(error: Exception, world: World) -> bool:
    """Whether a collective may have failed because another rank died: then the job is retried.

    For that, torch raises a bare RuntimeError or one of its own subclasses, with gloo and NCCL alike.
    """
    known = (NonFiniteLoss, torch.OutOfMemoryError)
    return world.size > 1 and isinstance(error, RuntimeError) and not isinstance(error, known)


def _is_of_ray(error: Exception) -> bool:
    """Whether Ray lost a process or node that a run used, e.g. what reads its stream: then the job is retried.

    What a task itself raised is no loss, however Ray wraps it.
    """
    from ray.exceptions import RayError, RayTaskError

    found: BaseException | None = error
    while isinstance(found, RayTaskError):
        found = found.cause
    return isinstance(found, RayError)


def _world(pieces: int) -> World:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    return World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        # Gradients are views of the buckets that are reduced, which saves half of their memory.
        wrap=partial(
            ray.train.torch.prepare_model, parallel_strategy_kwargs={"gradient_as_bucket_view": True}
        ),
        exchange=process_group_exchange(),
        pieces=pieces,
    )


def _agree_on_number() -> int:
    """A random number that is the same on all ranks and differs after each restart of the workers."""
    number = torch.randint(2**31 - 1, (), generator=_entropy())
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        import ray.train.torch

        number = number.to(ray.train.torch.get_device())
        torch.distributed.broadcast(number, src=0)
    return int(number.item())


def _entropy() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


class _Reporter:
    """Sends a progress report to the board and reads the answer to the previous one, without waiting.

    One that comes seldom waits for its own answer, about a millisecond, so that a run stops before its next interval.
    So does a preview: previews are rare, and training on in vain is expensive.
    """

    def __init__(self, board: Any, key: str) -> None:
        self._board, self._key = board, key
        self._pending: Any = None
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> bool:
        import ray

        stop = bool(ray.get(self._pending)) if self._pending is not None else False
        pending = self._pending = self._board.report.remote(self._key, progress)
        before, self._last = self._last, time.monotonic()
        if progress.preview is None and self._last - before < _SELDOM_S:
            return stop
        return bool(ray.get(pending))


def _announce(path: Path | None, metrics: dict[str, Any]) -> None:
    """Report the checkpoint at `path`, if any, already in its final place, to Ray Train; a barrier over all ranks."""
    import ray.train
    from ray.train import Checkpoint
    from ray.train.v2.api.report_config import CheckpointUploadMode

    lead = ray.train.get_context().get_world_rank() == 0
    ray.train.report(
        metrics,
        checkpoint=Checkpoint(str(path)) if lead and path else None,
        checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
    )


def announce_nothing(path: Path | None, metrics: dict[str, Any]) -> None:
    """Replaces `_announce` where a worker has no peers: each is a slot, which must not wait at a barrier, or alone."""


def note_failure(job: Job, error: BaseException) -> None:
    """Write the traceback to the run's folder, where people look for it; a disk that refuses it is logged."""
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / ERROR_FILE).write_text(text)
    except OSError as refused:  # what failed is told to the board all the same
        _LOG.warning("%s was not written: %s", job.folder / ERROR_FILE, refused.strerror)
