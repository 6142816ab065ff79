"""The warning before the end: on SIGTERM (Slurm, Kubernetes, spot machines) a command stops as it does on Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Preempted", "heeded"]


class Preempted(KeyboardInterrupt):
    """This process was told by SIGTERM to end."""


@contextmanager
def heeded() -> Iterator[None]:
    """Raise Preempted in the main thread at the first SIGTERM and ignore further ones; inside a connection to Ray.

    Ray's own handler, which stands before and after, would kill a local Ray before its runs wrote a checkpoint.
    Does nothing in any other thread, where no handler can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise Preempted

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
