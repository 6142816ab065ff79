"""The threads on which a worker computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curriculum_ray.distributed.resources import ResourceSpec

__all__ = ["threads_of", "worker_threads"]


def threads_of(resources: ResourceSpec) -> int:
    """What Ray gives a worker of these resources."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else max(1, int(resources.cpus_per_worker))


@contextmanager
def worker_threads(resources: ResourceSpec) -> Iterator[None]:
    """Have this process compute as a worker does: as fast, and with results that are the same to the bit."""
    from threadpoolctl import threadpool_limits

    threads, before = threads_of(resources), torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
