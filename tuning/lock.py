"""One driver a folder: a second one would take up the first one's trials and write over its files."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curriculum_ray.config import ConfigError
from tuning.status import STATUS_FILE, read_status

__all__ = ["LOCK_FILE", "held"]

LOCK_FILE = ".driver.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder`, made where it is missing, for this process; ConfigError of one line while another has it.

    The kernel lets go when the process ends, however it ends. A file system that cannot lock, or locks for each
    machine on its own, is helped out by the status that a study's driver writes every second.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not inherited by what this process starts: Ray's own processes may outlive it.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(_in_use(folder, _owner(path))) from None
        except OSError:
            pass  # The file system cannot lock.
        _refuse_elsewhere(folder)
        own = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(own).encode(), 0)
        try:
            yield
        finally:
            # Not by closing alone: a process that another thread forks at this moment still has the file open.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def _refuse_elsewhere(folder: Path) -> None:
    """A study's driver on another machine that wrote its status less than half a minute ago is at work."""
    if not (folder / STATUS_FILE).exists():
        return
    try:
        status = read_status(folder)
    except ConfigError:
        return
    if status["state"] == "running" and status["host"] != socket.gethostname():
        raise ConfigError(_in_use(folder, f"process {status['pid']} on {status['host']}"))


def _owner(path: Path) -> str:
    try:
        own = json.loads(path.read_text())
        return f"process {own['pid']} on {own['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _in_use(folder: Path, owner: str) -> str:
    return f"{folder} is in use by {owner}: wait until it ends, or choose another --name or --output"
