"""A queue of writes in a file, so that neither a killed driver nor an unreachable store loses any."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Spool", "Write", "writes_in"]

_BATCH = 1000
# Overwrites the bracket that opens a line, once its write is stored.
_DONE = b"#"


@dataclass(frozen=True)
class Write:
    """One thing to store, as plain JSON data."""

    kind: str
    """Name of the method that carries it out."""
    run: str
    """Handle of the run."""
    data: Any
    places: tuple[int, ...] = field(default=(), compare=False)
    """Where its lines begin in the spool's file, in bytes; empty before it has been taken from there."""


def _parsed(line: bytes, place: int) -> Write | None:
    """The write in a line; None for a damaged one."""
    try:
        kind, run, data = json.loads(line.lstrip(b"\0"))
    except (ValueError, TypeError, RecursionError):
        return None
    return Write(kind, run, data, (place,)) if isinstance(kind, str) and isinstance(run, str) else None


def _write_all(file: int, content: bytes, place: int) -> None:
    """Write all of `content` at a place of an open file, at which the system may take it in pieces; OSError."""
    while content:
        written = os.pwrite(file, content, place)
        content, place = content[written:], place + written


def writes_in(path: Path) -> int:
    """The number of writes that wait in a spool's file."""
    with open(path, "rb") as lines:
        return sum(not line.startswith(_DONE) for line in lines)


class Spool:
    """First in, first out: one line of JSON per write, appended by `put`; the file is emptied when all are stored.

    A line reaches the operating system before `put` returns, so a killed process loses none; after `sync` they also
    survive a crash of the machine. What is `done` is marked in the file at once: after a kill, the other writes are
    handed out again, one of which may be stored, so storing must be idempotent. What is set aside stays for the next
    process. Memory holds at most one batch, however long the store is unreachable. Without `path` the file is temporary
    and ends with the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read = 0  # lines before this place have been taken
        self._end = 0  # lines behind this place are torn
        self._count = 0
        self._aside = 0
        # Without a buffer, which would keep what a full disk refuses, and write it later.
        if path is None:
            self._file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        else:
            path.touch()
            # Not opened for appending: then the marks would be appended too.
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
            self._mend()

    def _mend(self) -> None:
        """Drop a last line torn by a kill, and count the whole ones that are not done."""
        with self._lines(0) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._end += len(line)
                self._count += not line.startswith(_DONE)
        self._drop_the_torn()

    def _drop_the_torn(self) -> None:
        with suppress(OSError):  # the next line is written over it
            self._file.truncate(self._end)

    def _lines(self, place: int) -> BinaryIO:
        """The lines from a place on, as they are in the file now."""
        lines = open(self._file.fileno(), "rb", closefd=False)  # noqa: SIM115
        lines.seek(place)
        return lines

    def __len__(self) -> int:
        """Number of writes that were put and are neither `done` nor set aside."""
        with self._lock:
            return self._count

    @property
    def left(self) -> int:
        """Number of writes in the file that are not `done`, those set aside among them."""
        with self._lock:
            return self._count + self._aside

    def put(self, write: Write) -> None:
        """Append a write; OSError when the disk is full, which leaves the file as it was."""
        line = json.dumps([write.kind, write.run, write.data]).encode() + b"\n"
        with self._lock:
            try:
                _write_all(self._file.fileno(), line, self._end)
            except OSError:
                self._drop_the_torn()
                raise
            self._end += len(line)
            self._count += 1

    def take(self) -> tuple[list[Write], int]:
        """The oldest writes that have not been taken yet, at most a batch, and the number of damaged lines among them.

        Damaged lines, e.g. after a loss of power, are forgotten.
        """
        lines: list[tuple[bytes, int]] = []
        with self._lock, self._lines(self._read) as file:
            while len(lines) < _BATCH and self._read < self._end and (line := file.readline()):
                if not line.startswith(_DONE):
                    lines.append((line, self._read))
                self._read += len(line)
        writes = [write for line, place in lines if (write := _parsed(line, place)) is not None]
        damaged = len(lines) - len(writes)
        with self._lock:
            self._forget(damaged)
        return writes, damaged

    def done(self, write: Write) -> None:
        """Forget a taken write, which is stored; the file is emptied with the last."""
        with self._lock:
            for place in write.places:
                with suppress(OSError):  # without its mark, it is stored again after a kill
                    os.pwrite(self._file.fileno(), _DONE, place)
            self._forget(len(write.places))

    def set_aside(self, write: Write) -> None:
        """Leave a taken write in the file for the next process."""
        with self._lock:
            self._aside += len(write.places)
            self._forget(len(write.places))

    def _forget(self, count: int) -> None:
        self._count -= count
        if self._count == self._aside == 0:
            with suppress(OSError):  # its lines stay, and are marked
                self._file.truncate(0)
                self._read = self._end = 0

    def sync(self) -> None:
        """Make all writes so far survive a loss of power; OSError where the disk cannot."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a named one without writes is removed. OSError where the disk does not let it."""
        with self._lock:
            self._file.close()
            if self.path is not None and self._count == self._aside == 0:
                self.path.unlink(missing_ok=True)
