"""Runs that were asked to stop: how long a command waits for their checkpoints, and what it says of late ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from curriculum_ray.runs.jobs import Job
from curriculum_ray.training import checkpoint as checkpoints

__all__ = ["STOP_S", "await_stop"]

_LOG = logging.getLogger(__name__)

STOP_S = 100.0
"""Seconds that runs get to stop: less than the two minutes of warning that clusters/slurm.sh asks Slurm for."""
_QUIET_S = 2.0


def await_stop(late: Callable[[float], Sequence[Job]], folders: Iterable[Path]) -> None:
    """Wait up to `STOP_S` seconds for runs that were asked to stop; logs one line on each that has not stopped by then.

    late: waits up to so many seconds, and returns the jobs that have not stopped. folders: where slots keep checkpoints
    during training. Ctrl-C, of which a line reminds, ends the wait, and is raised.
    """
    folders = list(folders)
    try:
        left = late(_QUIET_S)
        if left:
            _LOG.warning(
                "waiting up to %g s for checkpoints, which are written at log lines; Ctrl-C ends at once",
                STOP_S,
            )
            left = late(STOP_S - _QUIET_S)
    except KeyboardInterrupt:
        _tell(late(0.0), folders)
        raise
    _tell(left, folders)


def _tell(jobs: Iterable[Job], folders: list[Path]) -> None:
    for job in jobs:
        _LOG.warning("%s did not stop in time: %s", job.key, _whence(job, folders))


def _whence(job: Job, folders: list[Path]) -> str:
    """Where a run resumes. A bucket is not asked: that it does not answer may be why the run is late."""
    if job.copy is not None:
        return f"it resumes from its last whole checkpoint in {job.copy.shown(job.folder.parent)}"
    roots = dict.fromkeys((job.folder, *folders, *job.resume_from))
    found = [path.name for root in roots for path in checkpoints.find_checkpoints(root, job.key)]
    if not found:
        return "it has no checkpoint, and begins again"
    return f"it resumes from its checkpoint after {max(map(checkpoints.images_at, found)):,} images"
