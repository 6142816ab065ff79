"""Memory that Ray's and our processes take on the driver's node, beside the workers of the runs.

The figures are those of `benchmarks/bench_head.py`, rounded up.
"""

from __future__ import annotations

import psutil

from curriculum_ray.distributed.container import memory_limit

__all__ = ["driver_node_bytes", "memory_remark", "usable_bytes"]

_MB = 10**6
_GIB = 2**30

_FIXED = 1500 * _MB
"""The driver, the board, and Ray's own processes of a head."""
_SLOT = 40 * _MB
"""Of a slot in a cluster: all of its processes are where its workers are."""
_SLOT_ALONE = 125 * _MB
"""Of a slot where the driver's node is the only one: its trial's actor."""
_CONTROLLER = 225 * _MB
"""Ray Train's processes of each group of workers, where the driver's node is the only one."""


def driver_node_bytes(slots: int, alone: bool, together: bool = False) -> int:
    """Bytes on the driver's node at so many slots, without their workers.

    alone: whether no other node takes the slots' processes. together: whether all slots are one group of workers.
    """
    if not alone:
        return _FIXED + slots * _SLOT
    return _FIXED + slots * _SLOT_ALONE + (1 if together else slots) * _CONTROLLER


def usable_bytes() -> int:
    """Memory of this machine, or of the container that this process is in."""
    total, limit = psutil.virtual_memory().total, memory_limit()
    return total if limit is None else min(total, limit)


def memory_remark(needed: int, usable: int) -> str | None:
    """Say that the driver's node has too little memory; None where it has enough."""
    if needed <= usable:
        return None
    return (
        f"the driver's node needs about {needed / _GIB:.1f} GiB beside the workers, but has {usable / _GIB:.1f} GiB: "
        "lower --concurrent"
    )
