"""One thread that carries out queued writes in order: training never waits for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tuning.tracking.spool import Spool, Write

__all__ = ["Away", "Refused", "Write", "Writer", "merged"]

# Writes that arrive within this time of one another travel together.
_GATHER_SECONDS = 0.1
_TRIES = 3
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


class Refused(Exception):
    """The store will never take this write; trying again is of no use."""


class Away(Exception):
    """The store cannot be reached just now; the write is tried again until it can."""


class Writer:
    """Carries out writes in the order they came, and keeps those that the store cannot take now."""

    def __init__(self, apply: Callable[[Write], None], path: Path | None = None) -> None:
        """`apply` stores one write; `path` is the file that keeps what is not stored yet.

        It raises `Refused` for one to be dropped and `Away` for one to be tried as long as it takes; any
        other error counts as a failure, and a write that failed three times is dropped. What an earlier process
        left in the file comes first. Every write may be applied twice.
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
        """Writes that are not stored yet."""
        return len(self._spool)

    def put(self, write: Write) -> None:
        """Queue a write; when even the disk does not take it, it becomes a problem and no error."""
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
        """Flush; `problems` then says how much is not stored, and whether it waits on disk. A second call is free."""
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
        except Exception as error:  # e.g. a disk that does not give back what it took
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
    """Join the metrics of each run that follow one another, whatever other runs wrote in between."""
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
