"""Whether runs leave memory behind in the process that serves one after another."""

from __future__ import annotations

import psutil
import torch

__all__ = ["MemoryWatch", "held"]


def held() -> int:
    """Bytes that this process holds: resident memory, and on a GPU what tensors take there."""
    resident = int(psutil.Process().memory_info().rss)
    return resident + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)


class MemoryWatch:
    """Asked after each run; the first answer is always no, for what the first run leaves is what every run shares."""

    def __init__(self, limit: float) -> None:
        """limit: GiB that may be held beyond what was held after the first run."""
        self.limit = limit
        self._first: int | None = None

    def __call__(self) -> bool:
        """Whether more than the limit has come on top, so that fresh processes should go on."""
        now = held()
        if self._first is None:
            self._first = now
        return now - self._first > self.limit * 2**30
