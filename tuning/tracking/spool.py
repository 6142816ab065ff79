"""A queue of writes in a file, so that neither a killed driver nor an unreachable store loses any."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["Spool", "Write"]

_BATCH = 1000


@dataclass(frozen=True)
class Write:
    """One thing to store, as plain JSON data."""

    kind: str
    """Name of the method that carries it out."""
    run: str
    """Handle of the run."""
    data: Any


def _parsed(line: bytes) -> Write | None:
    """The write in a line; None for a damaged one."""
    try:
        kind, run, data = json.loads(line.lstrip(b"\0"))
    except (ValueError, TypeError, RecursionError):
        return None
    return Write(kind, run, data) if isinstance(kind, str) and isinstance(run, str) else None


class Spool:
    """First in, first out: one line of JSON per write, appended by `put`; the file is emptied when all are stored.

    A line reaches the operating system before `put` returns, so a killed process loses none; after `sync` they also
    survive a crash of the machine. After a kill, writes stored since the file was last empty are handed out again:
    storing must be idempotent. Memory holds at most one batch, however long the store is unreachable. Without `path`
    the file is temporary and ends with the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read = 0
        self._count = 0
        self._file: IO[bytes]
        if path is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        else:
            self._file = open(path, "a+b")  # noqa: SIM115
            self._mend()

    def _mend(self) -> None:
        """Drop a last line torn by a kill, and count the whole ones."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self._count += 1
        self._file.truncate(end)

    def __len__(self) -> int:
        """Number of writes that were put and are not yet `done`."""
        with self._lock:
            return self._count

    def put(self, write: Write) -> None:
        """Append a write; OSError when the disk is full, which leaves the file as it was."""
        line = json.dumps([write.kind, write.run, write.data]).encode() + b"\n"
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            try:
                self._file.write(line)
                self._file.flush()
            except OSError:
                self._file.truncate(end)
                raise
            self._count += 1

    def take(self) -> tuple[list[Write], int]:
        """The oldest writes, at most a batch, and the number of their lines: the argument of `done`.

        A damaged line, e.g. after a loss of power, is counted among the lines but not returned.
        """
        with self._lock:
            self._file.seek(self._read)
            lines = [line for _ in range(_BATCH) if (line := self._file.readline())]
        writes = [write for line in lines if (write := _parsed(line)) is not None]
        return writes, len(lines)

    def done(self, count: int) -> None:
        """Forget the oldest `count` writes; the file is emptied with the last."""
        with self._lock:
            self._file.seek(self._read)
            for _ in range(count):
                self._file.readline()
            self._read = self._file.tell()
            self._count -= count
            if self._count == 0:
                self._file.truncate(0)
                self._read = 0

    def sync(self) -> None:
        """Make all writes so far survive a loss of power."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a named one without writes is removed."""
        with self._lock:
            self._file.close()
            if self.path is not None and self._count == 0:
                self.path.unlink(missing_ok=True)
