"""The checkpoint from which a run goes on: rank 0 finds it, and every rank reads the same one."""

from __future__ import annotations

import time
from pathlib import Path

from curriculum_ray.buckets.store import BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.runs.folder import BEST
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.run_copy import RunCopy
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.trainer import Trainer

__all__ = ["resume"]

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Between two looks at what rank 0 has found: NFS shows a new folder elsewhere within 60 s (acdirmax in nfs(5))."""


def resume(trainer: Trainer, job: Assignment, copy: RunCopy | None) -> int:
    """Restore the newest checkpoint that rank 0 can read; returns its image count, 0 when there is none.

    Every rank must call it. Raises RuntimeError on a rank that cannot read the same one: new workers then try again.
    """
    world = trainer.world
    if world.rank == 0:
        sound = _newest(job, copy)
        world.exchange.tell(b"" if sound is None else f"{sound[1].digest} {sound[0]}".encode())
        found = None if sound is None else sound[1]
    else:
        digest, _, path = world.exchange.tell(b"").decode().partition(" ")
        found = _same(Path(path), digest, copy, world.rank) if digest else None
    if found is None:
        return 0
    trainer.restore(found)
    return trainer.images


def _newest(job: Assignment, copy: RunCopy | None) -> tuple[Path, Checkpoint] | None:
    """The newest sound checkpoint of the job, in a bucket or in its folders."""
    if copy is not None:
        return copy.newest()
    for root in (*job.roots, job.folder / BEST):
        checkpoints.put_back(root, job.key)
    return checkpoints.newest_sound(
        [path for root in job.roots for path in checkpoints.find_checkpoints(root, job.key)]
    )


def _same(path: Path, digest: str, copy: RunCopy | None, rank: int) -> Checkpoint:
    """The checkpoint with this digest at `path`, of which this rank's node may learn late."""
    for pause in (*_PAUSES_S, 0.0):
        try:
            sound = (path, checkpoints.read(path)) if copy is None else copy.newest()
        except (ConfigError, BucketError) as error:
            reason = str(error)
        else:
            if sound is not None and sound[1].digest == digest:
                return sound[1]
            reason = "it finds none" if sound is None else f"what it finds at {sound[0]} is another one"
        time.sleep(pause)
    raise RuntimeError(f"rank {rank} cannot resume from {path}, as rank 0 does: {reason}")
