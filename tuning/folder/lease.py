"""A lease on a file: one holder among all machines that see the file, alive while its counter rises."""

from __future__ import annotations

import _thread
import json
import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from tuning.folder.process import ProcessIdentity, is_alive, moves, this_process

__all__ = ["Holder", "Lease", "Taken"]

_LOG = logging.getLogger(__name__)

_EVERY_S = 1.0
_LENGTH = 1024
_TRIES, _PAUSE_S = 100, 0.05


class Holder(ProcessIdentity):
    """Contents of a lease's file; empty where there is none, or where it cannot be read."""

    id: str | None = None
    """Of this lease, unlike any other's."""
    beat: int = 0
    """How often it was renewed."""


class Taken(Exception):
    """Another process holds the lease: `process`, as far as its file says."""

    def __init__(self, process: ProcessIdentity) -> None:
        super().__init__("the lease is taken")
        self.process = process


class Lease:
    """The lease that this process holds; a thread renews it every second.

    Created exclusively, renewed in place, and given up by removing its file. The lease of a dead holder is removed
    first, so that only one of several takers gets it. A holder that was suspended for so long that another took the
    lease is interrupted as by Ctrl-C when it wakes.
    """

    def __init__(self, path: Path, file: int, own: Holder) -> None:
        self._path, self._file, self._own = path, file, own
        self._end = threading.Event()
        self._renew()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, path: Path, patience_s: float) -> Lease:
        """Take the lease at `path`; Taken where its holder is alive, or where another process was faster.

        A holder that cannot be seen from here is watched for `patience_s` seconds. OSError if there can be no file.
        """
        own = Holder(id=uuid.uuid4().hex, **this_process().model_dump())
        for _ in range(3):
            with suppress(FileExistsError):
                return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), own)
            found = Holder.read(path)
            alive = is_alive(found)
            if alive is None:
                alive = not patience_s or moves(path, patience_s)
            if alive:
                raise Taken(found)
            _bury(path, found)
        raise Taken(Holder.read(path))

    def release(self) -> None:
        """Give up the lease, if this process still holds it."""
        self._end.set()
        self._thread.join()
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _run(self) -> None:
        while not self._end.wait(_EVERY_S):
            if not self._is_ours():
                _LOG.error(
                    "%s was taken over by another process while this one was suspended", self._path.parent
                )
                _thread.interrupt_main()
                return
            # A full disk still takes writes within an existing file.
            with suppress(OSError):
                self._renew()

    def _renew(self) -> None:
        self._own = self._own.model_copy(update={"beat": self._own.beat + 1})
        text = json.dumps(self._own.model_dump(mode="json"))
        os.pwrite(self._file, text.ljust(_LENGTH - 1).encode() + b"\n", 0)
        os.fsync(self._file)  # to the server, for a file on a network

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # A server that does not answer has not given the lease away.


def _bury(path: Path, dead: Holder) -> None:
    """Remove the lease of a dead holder, but none taken at `path` since then: one process at a time."""
    grave = path.with_name(f"{path.name}.grave")
    for _ in range(_TRIES):
        try:
            os.close(os.open(grave, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            break
        except FileExistsError:
            time.sleep(_PAUSE_S)
    # After so many tries, the process that started to bury it must have died.
    if Holder.read(path).id == dead.id:
        path.unlink(missing_ok=True)
    grave.unlink(missing_ok=True)
