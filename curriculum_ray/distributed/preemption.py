"""Warnings of preemption: SIGTERM to a command, as by Slurm, Kubernetes and spot machines, or the loss of a node."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["NodeWarning", "Preempted", "heeded"]


class Preempted(KeyboardInterrupt):
    """This process received SIGTERM."""


@contextmanager
def heeded() -> Iterator[None]:
    """Raise Preempted in the main thread at the first SIGTERM and ignore further ones; inside a connection to Ray.

    Ray's own handler, which is in place before and after, would kill a local Ray before its runs wrote a checkpoint.
    Does nothing in any other thread, where no handler can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    preempted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal preempted
        if not preempted:
            preempted = True
            raise Preempted

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except KeyboardInterrupt as error:
        # A call into Ray that a signal interrupts raises a plain KeyboardInterrupt, whatever the handler raised.
        if preempted and not isinstance(error, Preempted):
            raise Preempted from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class NodeWarning:
    """Whether Ray is about to lose a node of this group of workers; True once for each such set of nodes.

    A loss is announced by SIGTERM to `ray start --block`, as Kubernetes sends it to a pod, or by `ray drain-node`; the
    launchers for AWS and Google Cloud announce none, and a local Ray never does.
    """

    def __init__(self) -> None:
        self._watched = os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") != "0"
        self._known: list[str] = []

    def __call__(self) -> bool:
        """The same answer on every rank; a barrier, so every rank must call it equally often."""
        if not self._watched:
            return False
        import ray.train

        info = ray.train.get_preemption_info()
        nodes = info.preempted_node_ids if info else []
        new = nodes != self._known
        self._known = nodes
        return new and bool(nodes)
