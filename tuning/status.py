"""A study's `status.json`: how far it is, for another terminal to read; replaced whole every second by its driver."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file

__all__ = ["STATUS_FILE", "StatusFile", "find_status", "read_status"]

STATUS_FILE = "status.json"
_EVERY_S = 1.0
_STALE_S = 30.0


class StatusFile:
    """Writes what `snapshot` returns into a folder once a second, from a thread of its own, until `close`."""

    def __init__(self, folder: Path, name: str, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        self._path, self._name, self._snapshot = folder / STATUS_FILE, name, snapshot
        self._end = threading.Event()
        self._since = time.time()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._write("running")
        self._thread.start()

    def close(self, state: str) -> None:
        """Write the last word, e.g. "finished", and stop."""
        self._end.set()
        self._thread.join()
        self._write(state)

    def _run(self) -> None:
        while not self._end.wait(_EVERY_S):
            self._write("running")

    def _write(self, state: str) -> None:
        own = {
            "study": self._name,
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._since,
            "time": time.time(),
        }
        try:
            replace_file(self._path, json.dumps({**own, **self._snapshot()}), durable=False)
        except OSError:
            # A full disk must not end a study for the sake of a display.
            return


def find_status(output: Path, name: str | None) -> Path:
    """The folder of the study `name` in `output`, or of the one that wrote last; ConfigError when there is none."""
    found = sorted(output.glob(f"*/{STATUS_FILE}"), key=lambda path: path.stat().st_mtime)
    if name is not None:
        found = [path for path in found if path.parent.name == name]
    if not found:
        which = f"no study {name!r}" if name else "no study"
        raise ConfigError(f"there is {which} in {output}: run `python -m tune search` first")
    return found[-1].parent


def read_status(folder: Path) -> dict[str, Any]:
    """What the study's driver wrote last, with "state" "dead" where a driver died without a last word.

    A driver on this machine is dead when its process is gone, one elsewhere when it has been silent for 30 s.
    """
    path = folder / STATUS_FILE
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    status["silent_s"] = max(0.0, time.time() - status["time"])
    if status["state"] == "running":
        here = status["host"] == socket.gethostname()
        gone = not _alive(status["pid"]) if here else status["silent_s"] > _STALE_S
        status["state"] = "dead" if gone else "running"
    return status


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
