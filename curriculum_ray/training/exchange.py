"""Ranks hand each other bytes outside of collectives, so that nobody's collective is open while others still work.

A collective that one rank enters early fails when its timeout (Ray Train: 1,800 s) is over, however much the others
still have to do. Here a rank that waits looks into the process group's store, and gives up only when no rank has got
anywhere for `PATIENCE_S`.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch

__all__ = ["PATIENCE_S", "Alone", "Exchange", "StoreExchange", "process_group_exchange"]

PATIENCE_S = 1_800.0
"""Seconds without a sign of work from any rank after which a rank that waits gives up."""

_PIECE = 4 << 20
"""Bytes of a value that go into the store at a time: torch's takes 8 MiB."""
_LOOKS_S = (0.01, 0.5)
"""The least and the most seconds between two looks into the store."""


class Exchange(Protocol):
    """Every rank must call `gather` and `tell` in the same order."""

    def gather(self, value: bytes) -> list[bytes] | None:
        """On rank 0 the values of all ranks, by rank, for which it waits; None on the others, which do not wait."""

    def tell(self, value: bytes) -> bytes:
        """Rank 0's value, for which the others wait."""

    def work(self) -> None:
        """Signal to the ranks that wait that this one is making progress."""


class Alone:
    """The exchange of a single rank."""

    def gather(self, value: bytes) -> list[bytes] | None:
        """See `Exchange`."""
        return [value]

    def tell(self, value: bytes) -> bytes:
        """See `Exchange`."""
        return value

    def work(self) -> None:
        """See `Exchange`."""


class StoreExchange:
    """An exchange of `size` ranks through a store of torch.distributed, which no one else writes these keys to."""

    def __init__(self, store: Any, rank: int, size: int, patience_s: float = PATIENCE_S) -> None:
        self._store, self._rank, self._size, self._patience_s = store, rank, size, patience_s
        self._round = 0

    def gather(self, value: bytes) -> list[bytes] | None:
        """See `Exchange`."""
        name = self._next()
        if self._rank:
            self._put(f"{name}/{self._rank}", value)
            return None
        return [value, *(self._take(f"{name}/{rank}", readers=1) for rank in range(1, self._size))]

    def tell(self, value: bytes) -> bytes:
        """See `Exchange`."""
        name = self._next()
        if self._rank:
            return self._take(name, readers=self._size - 1)
        self._put(name, value)
        return value

    def work(self) -> None:
        """See `Exchange`."""
        self._store.add("worked", 1)

    def _next(self) -> str:
        self._round += 1
        self.work()
        return f"round-{self._round}"

    def _put(self, name: str, value: bytes) -> None:
        pieces = range(0, len(value), _PIECE)
        for number, start in enumerate(pieces):
            self._store.set(f"{name}/{number}", value[start : start + _PIECE])
        self._store.set(name, str(len(pieces)))

    def _take(self, name: str, readers: int) -> bytes:
        """Wait for a value; the last of its readers removes it."""
        self._wait(name)
        keys = [f"{name}/{number}" for number in range(int(self._store.get(name)))]
        value = b"".join(self._store.get(key) for key in keys)
        if self._store.add(f"{name}/read", 1) == readers:
            for key in (*keys, f"{name}/read", name):
                self._store.delete_key(key)
        return value

    def _wait(self, name: str) -> None:
        pause, longest = _LOOKS_S
        worked, since = self._store.add("worked", 0), time.monotonic()
        while not self._store.check([name]):
            time.sleep(pause)
            pause = min(2 * pause, longest)
            now = self._store.add("worked", 0)
            if now != worked:
                worked, since = now, time.monotonic()
            elif time.monotonic() - since > self._patience_s:
                raise RuntimeError(f"no worker has made progress for {self._patience_s:g} s")


def process_group_exchange() -> Exchange:
    """The exchange of the ranks of torch's process group, through its own store; `Alone` where there is one rank."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()) or group.get_world_size() == 1:
        return Alone()
    store = group.PrefixStore("curriculum-ray", group.distributed_c10d._get_default_store())
    return StoreExchange(store, group.get_rank(), group.get_world_size())
