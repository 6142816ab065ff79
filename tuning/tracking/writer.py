"""A queue of writes and one thread that carries them out in order: training never waits for the store."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

# Writes that arrive within this time of one another travel together.
_GATHER_SECONDS = 0.1
_TRIES = 3
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Write:
    """One thing to store: all plain data."""

    kind: str
    """Name of the method that carries it out."""
    run: str
    """Handle of the run."""
    data: Any


class Refused(Exception):
    """The store will never take this write; trying again is of no use."""


class Away(Exception):
    """The store cannot be reached just now; the write is tried again until it can."""


class Writer:
    """Carries out writes in the order they came, and keeps those that the store cannot take now."""

    def __init__(self, apply: Callable[[Write], None]) -> None:
        """`apply` stores one write.

        It raises `Refused` for one to be dropped and `Away` for one to be tried as long as it takes; any
        other error counts as a failure, and a write that failed three times is dropped.
        """
        self.problems: list[str] = []
        self._apply = apply
        self._queue: queue.Queue[Write | None] = queue.Queue()
        self._hurry = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-writer", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        self._queue.put(write)

    def flush(self, seconds: float) -> bool:
        """Wait until everything put so far is stored, at most `seconds`; return whether it is."""
        deadline = time.monotonic() + seconds
        self._hurry.set()
        try:
            with self._queue.all_tasks_done:
                while self._queue.unfinished_tasks:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._queue.all_tasks_done.wait(left)
            return True
        finally:
            self._hurry.clear()

    def close(self, seconds: float) -> None:
        """Flush, then give up what is still not stored; `problems` then says how much."""
        if not self.flush(seconds):
            self.problems.append(f"{self._queue.unfinished_tasks} writes to MLflow were not stored")
            self._abandon.set()
        self._queue.put(None)

    def _run(self) -> None:
        while not self._abandon.is_set():
            taken = [self._queue.get()]
            self._hurry.wait(_GATHER_SECONDS)
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
            for write in merged(write for write in taken if write is not None):
                self._store(write)
            for _ in taken:
                self._queue.task_done()
            if None in taken:
                return

    def _store(self, write: Write) -> None:
        pause = _FIRST_PAUSE_SECONDS
        failures = 0
        while not self._abandon.is_set():
            try:
                return self._apply(write)
            except Refused as refusal:
                self.problems.append(str(refusal))
                return
            except Away:
                pass
            except Exception as error:
                failures += 1
                if failures == _TRIES:
                    self.problems.append(f"a write to MLflow ({write.kind}) was dropped: {error!r}")
                    return
            self._abandon.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def merged(writes: Iterable[Write]) -> list[Write]:
    """Join the metrics of each run that follow one another, whatever other runs wrote in between."""
    result: list[Write] = []
    joinable: dict[str, int] = {}
    for write in writes:
        if write.kind != "log":
            joinable.pop(write.run, None)
            result.append(write)
        elif write.run in joinable:
            at = joinable[write.run]
            result[at] = replace(result[at], data=[*result[at].data, *write.data])
        else:
            joinable[write.run] = len(result)
            result.append(write)
    return result
