"""A queue of writes that lives in a file, so that neither a killed driver nor a store that is away loses any."""

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
    """One thing to store: all plain data, as JSON has it."""

    kind: str
    """Name of the method that carries it out."""
    run: str
    """Handle of the run."""
    data: Any


def _parsed(line: bytes) -> Write | None:
    """The write that a line holds; None for a damaged one."""
    try:
        kind, run, data = json.loads(line.lstrip(b"\0"))
    except (ValueError, TypeError, RecursionError):
        return None
    return Write(kind, run, data) if isinstance(kind, str) and isinstance(run, str) else None


class Spool:
    """First in, first out: a line of JSON a write, appended when it is put and emptied when all are stored.

    A line reaches the operating system before `put` returns, so a killed process loses none; `sync` makes them
    outlive the machine too. What was stored since the file was last empty is handed out again after a kill: storing
    must be idempotent. Memory holds at most one batch, however long the store is away. Without `path` the file is
    nameless and ends with the process.
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
        """Drop a last line that a kill tore, and count the whole ones."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self._count += 1
        self._file.truncate(end)

    def __len__(self) -> int:
        """Writes that were put and not yet `done`."""
        with self._lock:
            return self._count

    def put(self, write: Write) -> None:
        """Append a write; OSError when the disk takes no more, and then the file is as before."""
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

        A line that is no write, as a loss of power leaves it, is among the lines and not among the writes.
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
        """Make what was put outlive a loss of power."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a named one without writes is removed."""
        with self._lock:
            self._file.close()
            if self.path is not None and self._count == 0:
                self.path.unlink(missing_ok=True)
