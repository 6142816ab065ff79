"""Storage that does not answer, behind whatever error it made: a run that fails of it is tried again."""

from __future__ import annotations

import errno

from curriculum_ray.buckets.store import BucketError, TakenOver

__all__ = ["storage_error"]

# As of a server of NFS that is away.
_OUTAGES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO)


def storage_error(error: BaseException) -> OSError | TakenOver | None:
    """The error of storage that did not answer, or is another worker's by now, behind `error`; None where none is.

    Also of an error that says it in other words, e.g. that a shard cannot be read. What is behind an error does not
    travel to another process with it.
    """
    from ray.exceptions import RayTaskError

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, BucketError | TakenOver):
            return found
        if isinstance(found, OSError) and found.errno in _OUTAGES:
            return found
        found = found.cause if isinstance(found, RayTaskError) else found.__cause__ or found.__context__
    return None
