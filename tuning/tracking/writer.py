"""One thread that carries out queued writes in order: training never waits for the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tuning.tracking.failures import Failures
from tuning.tracking.spool import Spool, Write

__all__ = ["Away", "Refused", "Write", "Writer", "merged"]

# Writes that arrive within this time of one another are sent together.
_GATHER_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
_KINDS = {
    "begin": "new runs",
    "log": "metrics",
    "set_tags": "tags",
    "store_files": "files",
    "log_dataset": "data sets",
    "log_model": "models",
    "end": "ends of runs",
}


class Refused(Exception):
    """The store will never accept this write; a retry is pointless."""


class Away(Exception):
    """The store cannot be reached at the moment; the write is retried until it can."""


class Writer:
    """Carries out writes in order, and keeps those that the store cannot take yet."""

    def __init__(self, apply: Callable[[Write], None], path: Path | None = None) -> None:
        """`apply` stores one write; `path` is the file that keeps writes that are not stored yet.

        `apply` raises `Refused` for a write to be dropped and `Away` for one to be retried without limit. A write that
        fails with other errors is set aside after a few tries, with all that follow to a run that could not be opened:
        it stays in the file, and the writes after it go on. Writes that an earlier process left in the file come first.
        Every write may be applied twice.
        """
        self.problems: list[str] = []
        self.reason = ""  # why the last try failed; empty after a success
        self._apply = apply
        self._spool = Spool(path)
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._abandon = threading.Event()
        self._closing = False
        # When a write was last stored, dropped, set aside, or answered by an error.
        self._moved = time.monotonic()
        self._failures = Failures()
        self._thread = threading.Thread(target=self._run, name="mlflow-writer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Number of writes that are neither stored nor set aside yet."""
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
        """Wait until every write is stored or set aside; return False after `seconds` in which nothing moved."""
        start = time.monotonic()
        self._hurry.set()
        try:
            with self._changed:
                while len(self._spool) and not self._abandon.is_set():
                    left = max(start, self._moved) + seconds - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(left)
                return not len(self._spool)
        finally:
            self._hurry.clear()

    def close(self, seconds: float) -> None:
        """Flush; `problems` then says how much is not stored, and whether it waits on disk. May be called twice."""
        if self._closing:
            return
        flushed = self.flush(seconds)
        if self._spool.left:
            self.problems.append(self._waiting(flushed))
        if not flushed:
            self._abandon.set()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds if self._abandon.is_set() else None)
        if not self._thread.is_alive():
            try:
                self._spool.close()
            except OSError as error:
                self.problems.append(f"the queue of writes to MLflow was not closed: {error.strerror}")

    def _waiting(self, flushed: bool) -> str:
        left, kept = f"{self._spool.left} writes to MLflow", self._spool.path
        because = f": {self.reason}" if self.reason and not flushed else ""
        if kept is None:
            return f"{left} were not stored{because}"
        then = "tries them again" if flushed else "stores them when the server is back"
        return f"{left} wait in {kept}{because}; the same command {then}"

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
            writes, damaged = self._spool.take()
            if damaged:
                self.problems.append(
                    f"{damaged} damaged lines of {self._spool.path or 'the queue'} were left out: MLflow lacks what "
                    "they held"
                )
            for write in merged(writes):
                self._store(write)
            self._move()

    def _store(self, write: Write) -> None:
        """Store a write, drop it, or set it aside after a few tries; none of these once the writer is abandoned."""
        pause, tries = _FIRST_PAUSE_SECONDS, self._failures.tries(write)
        left = tries
        while left and not self._abandon.is_set():
            try:
                self._apply(write)
            except Refused as refusal:
                self.problems.append(str(refusal))
                return self._settle(write)
            except Away as away:
                self.reason = str(away)
                with suppress(OSError):  # it is tried again with the write
                    self._spool.sync()
            except Exception as error:
                self.reason = str(error)
                left -= 1
                self._move()
            else:
                self.reason = ""
                self._failures.stored(write)
                return self._settle(write)
            if left:
                self._abandon.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if not left:
            self._set_aside(write, tried=tries > 0)

    def _settle(self, write: Write) -> None:
        self._spool.done(write)
        self._move()

    def _set_aside(self, write: Write, tried: bool) -> None:
        if self._failures.set_aside(write, tried):
            kind = _KINDS.get(write.kind, write.kind)
            self.problems.append(f"{kind} are not taken for now, and wait: {self.reason}")
        self._spool.set_aside(write)
        self._move()

    def _move(self) -> None:
        with self._changed:
            self._moved = time.monotonic()
            self._changed.notify_all()


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
            before = result[at]
            places = (*before.places, *write.places)
            result[at] = replace(before, data=[*before.data, *write.data], places=places)
        else:
            joinable[write.run] = len(result)
            result.append(write)
    return result
