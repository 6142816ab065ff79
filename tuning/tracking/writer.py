"""One thread that carries out queued writes in order: training never waits for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tuning.tracking.spool import Spool, Write

__all__ = ["Away", "Refused", "Write", "Writer", "merged"]

# Writes that arrive within this time of one another are sent together.
_GATHER_SECONDS = 0.1
_TRIES = 3
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


class Refused(Exception):
    """The store will never accept this write; a retry is pointless."""


class Away(Exception):
    """The store cannot be reached at the moment; the write is retried until it can."""


class Writer:
    """Carries out writes in order, and keeps those that the store cannot take yet."""

    def __init__(self, apply: Callable[[Write], None], path: Path | None = None) -> None:
        """`apply` stores one write; `path` is the file that keeps writes that are not stored yet.

        `apply` raises `Refused` for a write to be dropped and `Away` for one to be retried without limit; a write that
        fails three times with other errors is dropped. Writes that an earlier process left in the file come first.
        Every write may be applied twice.
        """
        self.problems: list[str] = []
        self._apply = apply
        self._spool = Spool(path)
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._abandon = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="mlflow-writer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Number of writes that are not stored yet."""
        return len(self._spool)

    def put(self, write: Write) -> None:
        """Queue a write; if even the disk does not take it, it becomes a problem, not an error."""
        try:
            self._spool.put(write)
        except OSError as error:
            self.problems.append(f"a write to MLflow ({write.kind}) was lost: {error.strerror}")
        with self._changed:
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything put so far is stored, at most `seconds`; return whether it is."""
        self._hurry.set()
        try:
            with self._changed:
                self._changed.wait_for(lambda: not len(self._spool) or self._abandon.is_set(), seconds)
                return not len(self._spool)
        finally:
            self._hurry.clear()

    def close(self, seconds: float) -> None:
        """Flush; `problems` then says how much is not stored, and whether it waits on disk. May be called twice."""
        if self._closing:
            return
        if not self.flush(seconds):
            kept = self._spool.path
            left = f"{len(self._spool)} writes to MLflow"
            self.problems.append(
                f"{left} were not stored"
                if kept is None
                else f"{left} wait in {kept}; the same command stores them when the server is back"
            )
            self._abandon.set()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds if self._abandon.is_set() else None)
        if not self._thread.is_alive():
            self._spool.close()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # e.g. a disk that fails to read
            self.problems.append(f"what MLflow was to store could not be read back: {error!r}")
            self._abandon.set()
            with self._changed:
                self._changed.notify_all()

    def _work(self) -> None:
        while not self._abandon.is_set():
            with self._changed:
                self._changed.wait_for(lambda: len(self._spool) or self._closing)
            if not len(self._spool):
                return
            self._hurry.wait(_GATHER_SECONDS)
            writes, count = self._spool.take()
            if damaged := count - len(writes):
                self.problems.append(
                    f"{damaged} damaged lines of {self._spool.path or 'the queue'} were left out: MLflow lacks what "
                    "they held"
                )
            for write in merged(writes):
                self._store(write)
            if not self._abandon.is_set():
                self._spool.done(count)
            with self._changed:
                self._changed.notify_all()

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
                self._spool.sync()
            except Exception as error:
                failures += 1
                if failures == _TRIES:
                    self.problems.append(f"a write to MLflow ({write.kind}) was dropped: {error!r}")
                    return
            self._abandon.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def merged(writes: Iterable[Write]) -> list[Write]:
    """Join consecutive metrics of each run, whatever other runs wrote in between."""
    result: list[Write] = []
    joinable: dict[str, int] = {}
    for write in writes:
        if write.kind != "log" or not isinstance(write.data, list):
            joinable.pop(write.run, None)
            result.append(write)
        elif write.run in joinable:
            at = joinable[write.run]
            result[at] = replace(result[at], data=[*result[at].data, *write.data])
        else:
            joinable[write.run] = len(result)
            result.append(write)
    return result
