"""Which process is meant, and whether it lives: its number alone is given again, and counts in one container only."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_alive", "moves", "this_process"]

_LOOK_S = 0.2


def this_process() -> dict[str, Any]:
    """What tells this process from every other, on this machine and elsewhere, as JSON."""
    return {**_place(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process of `this_process` lives; None where it cannot be seen from here: watch what it writes."""
    if any(process.get(key) != value for key, value in _place().items()):
        return None
    pid = process.get("pid")
    started = _started(pid) if isinstance(pid, int) else None
    return started is not None and started == process.get("started")


def moves(path: Path, patience_s: float) -> bool:
    """Whether the content of `path` changes within `patience_s` seconds by this process's own clock; it may vanish.

    A writer that counts up is alive, whatever its clock says.
    """
    end = time.monotonic() + patience_s
    before = _content(path)
    while time.monotonic() < end:
        time.sleep(min(_LOOK_S, patience_s))
        now = _content(path)
        if now is None:
            return False
        if now != before:
            return True
    return False


def _content(path: Path) -> bytes | None:
    """Opened anew each time: a network's file system asks its server then."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _place() -> dict[str, str]:
    """The host, its boot, and the space in which its process numbers count."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        boot = space = ""
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def _started(pid: int) -> str | None:
    """When the process began, in ticks since the boot; None where it has ended, "" where that is not known."""
    try:
        # The name, in brackets, may hold blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if not Path("/proc/self/stat").exists() and _exists(pid) else None
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
