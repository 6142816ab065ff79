"""A process as files name it, and whether it is alive; process numbers are reused, and each container has its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import pydantic

from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular

__all__ = ["ProcessIdentity", "is_alive", "moves", "this_process"]

_LOOK_S = 0.2


class ProcessIdentity(pydantic.BaseModel):
    """Distinguishes a process from every other, on any machine; a field is None where a file does not give it."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    host: str | None = None
    boot: str | None = None
    """The boot of that host; "" where it is not Linux."""
    space: str | None = None
    """The PID namespace that `pid` belongs to; "" where it is not Linux."""
    pid: int | None = None
    started: str | None = None
    """In clock ticks since the boot; "" where that is not known."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The process named in the JSON file at `path`; one without any field where that cannot be read."""
        try:
            return cls.model_validate(read_own_json(read_regular(path)))
        except (OSError, ValueError):
            return cls()


def this_process() -> ProcessIdentity:
    """The process that calls."""
    return ProcessIdentity(**_place(), pid=os.getpid(), started=_started(os.getpid()))


def is_alive(process: ProcessIdentity) -> bool | None:
    """Whether a process is alive; None where it cannot be seen from here: watch the file that it writes."""
    if any(getattr(process, key) != value for key, value in _place().items()):
        return None
    started = None if process.pid is None else _started(process.pid)
    return started is not None and started == process.started


def moves(read: Path | Callable[[], bytes | None], patience_s: float, look_s: float = _LOOK_S) -> bool:
    """Whether a content changes within `patience_s` seconds by this process's clock; False if it vanishes.

    read: the file, or what returns the content, None where there is none; it is read every `look_s` seconds. A writer
    whose counter rises is alive, whatever its clock says.
    """
    if isinstance(read, Path):
        read = partial(_content, read)
    end = time.monotonic() + patience_s
    before = read()
    while time.monotonic() < end:
        time.sleep(min(look_s, patience_s))
        now = read()
        if now is None:
            return False
        if now != before:
            return True
    return False


def _content(path: Path) -> bytes | None:
    """Reopens the file each time, so that a network file system asks its server."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _place() -> dict[str, str]:
    """The host, its boot, and the PID namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot = space = ""
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def _started(pid: int) -> str | None:
    """When the process started, in clock ticks since the boot; None where it has ended, "" where that is not known."""
    try:
        # The name, in brackets, may itself contain spaces and brackets.
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
