"""Detects runs that leak memory in a process that serves one after another."""

from __future__ import annotations

import psutil
import torch

__all__ = ["MemoryWatch", "held"]


def held() -> int:
    """Bytes that this process holds: resident memory, and the memory of tensors on a GPU."""
    resident = int(psutil.Process().memory_info().rss)
    return resident + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)


class MemoryWatch:
    """Called after each run; the first answer is always no, since the memory left by the first run is shared by all."""

    def __init__(self, limit: float) -> None:
        """limit: GiB that may be held in addition to those held after the first run."""
        self.limit = limit
        self._first: int | None = None

    def __call__(self) -> bool:
        """Whether the limit is exceeded, so that a fresh process should take over."""
        now = held()
        if self._first is None:
            self._first = now
        return now - self._first > self.limit * 2**30
