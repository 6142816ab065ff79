"""A study's `status.json`: how far it is, for another terminal to read; replaced whole every second by its driver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file
from curriculum_ray.shell import tune_command
from tuning.folder.layout import STATUS_FILE
from tuning.folder.process import is_alive, moves, this_process

__all__ = ["StatusFile", "find_status", "read_status"]

_EVERY_S = 1.0
_STALE_S = 30.0


class StatusFile:
    """Writes what `snapshot` returns into a folder once a second, from a thread of its own, until `close`."""

    def __init__(self, folder: Path, name: str, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        self._path, self._name, self._snapshot = folder / STATUS_FILE, name, snapshot
        self._end = threading.Event()
        self._since = time.time()
        self._process, self._beat = this_process(), 0
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
        self._beat += 1
        own = {
            "study": self._name,
            "state": state,
            **self._process,
            "beat": self._beat,
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
        raise ConfigError(f"there is {which} in {output}: run `{tune_command('search')}` first")
    return found[-1].parent


def read_status(folder: Path, patience_s: float = _STALE_S) -> dict[str, Any]:
    """What the study's driver wrote last, with "state" "dead" where a driver died without a last word.

    A driver on this machine is dead when its process is gone. One that cannot be seen from here is watched: it is dead
    when it writes nothing for `patience_s` seconds, whatever its clock says.
    """
    path = folder / STATUS_FILE
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if status["state"] == "running":
        alive = is_alive(status)
        if alive is None:
            alive = moves(path, patience_s)
            with suppress(OSError, ValueError):
                status = json.loads(path.read_text())
        if not alive and status["state"] == "running":
            status["state"] = "dead"
    status["silent_s"] = max(0.0, time.time() - status["time"])
    return status
