"""A lease on a file: one holder among all machines that see the file, alive as long as it counts up."""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuning.folder.process import is_alive, moves, this_process

__all__ = ["Lease", "Taken"]

_EVERY_S = 1.0
_LENGTH = 1024
_TRIES, _PAUSE_S = 100, 0.05


class Taken(Exception):
    """Somebody else holds the lease; `process` says who, as far as it is known."""

    def __init__(self, process: dict[str, Any]) -> None:
        super().__init__("the lease is taken")
        self.process = process


class Lease:
    """The lease that this process holds; a thread renews it every second.

    Made exclusively, renewed in place, and given up by removing it. One whose holder has died is removed first, so that
    of two who find it only one gets it. A holder that was stopped for so long that another took the lease is
    interrupted as by Ctrl-C when it wakes.
    """

    def __init__(self, path: Path, file: int, own: dict[str, Any]) -> None:
        self._path, self._file, self._own = path, file, own
        self._beat = 0
        self._end = threading.Event()
        self._renew()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, path: Path, patience_s: float) -> Lease:
        """Take the lease at `path`; Taken where its holder lives, or where another was faster.

        A holder that cannot be seen from here is watched for `patience_s` seconds. OSError where nothing can be made.
        """
        own = {"id": uuid.uuid4().hex, **this_process()}
        for _ in range(3):
            with suppress(FileExistsError):
                return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), own)
            found = _read(path)
            alive = is_alive(found) if found else None
            if alive is None:
                alive = not patience_s or moves(path, patience_s)
            if alive:
                raise Taken(found)
            _bury(path, found)
        raise Taken(_read(path))

    def release(self) -> None:
        """Give the lease up, if it is still this process's."""
        self._end.set()
        self._thread.join()
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _run(self) -> None:
        while not self._end.wait(_EVERY_S):
            if not self._is_ours():
                print(
                    f"{self._path.parent} was taken over by another process while this one stood still",
                    file=sys.stderr,
                    flush=True,
                )
                _thread.interrupt_main()
                return
            # A full disk takes what lies within a file that it holds already.
            with suppress(OSError):
                self._renew()

    def _renew(self) -> None:
        self._beat += 1
        text = json.dumps({**self._own, "beat": self._beat})
        os.pwrite(self._file, text.ljust(_LENGTH - 1).encode() + b"\n", 0)
        os.fsync(self._file)  # to the server, where the file lies on one

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # A server that does not answer just now has not given it away.


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _bury(path: Path, dead: dict[str, Any]) -> None:
    """Remove the lease of a dead holder, and no other that was taken at `path` since: one process at a time."""
    grave = path.with_name(f"{path.name}.grave")
    for _ in range(_TRIES):
        try:
            os.close(os.open(grave, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            break
        except FileExistsError:
            time.sleep(_PAUSE_S)
    # After so many tries whoever began to bury it has died over that.
    if _read(path).get("id") == dead.get("id"):
        path.unlink(missing_ok=True)
    grave.unlink(missing_ok=True)
