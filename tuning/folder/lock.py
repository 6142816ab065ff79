"""One driver a folder: a second one would take up the first one's trials and write over its files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curriculum_ray.config import ConfigError
from tuning.folder.layout import LEASE_FILE, LOCK_FILE, STATUS_FILE
from tuning.folder.lease import Lease, Taken
from tuning.folder.process import Process, is_alive, moves

__all__ = ["InUse", "held"]

_PATIENCE_S = 30.0


class InUse(ConfigError):
    """Another process works in the folder."""


class _Driver(Process):
    """All that is needed of a status, which an earlier release may have written."""

    state: str | None = None


@contextmanager
def held(folder: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Hold `folder`, made where it is missing, for this process; InUse, one line, while another has it.

    The kernel lets go when the process ends, however it ends. For a file system that cannot lock, or locks for each
    machine on its own, there is a lease beside the lock, which its holder renews every second. That of a process which
    cannot be seen from here is watched for `patience_s` seconds: no clock of another machine counts.
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
            raise InUse(_in_use(folder, Process.read(folder / LEASE_FILE))) from None
        except OSError:
            pass  # The file system cannot lock.
        _refuse_an_older_driver(folder, patience_s)
        try:
            lease = Lease.take(folder / LEASE_FILE, patience_s)
        except Taken as taken:
            raise InUse(_in_use(folder, taken.process)) from None
        except OSError as error:
            raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            lease.release()
            # Not by closing alone: a process that another thread forks at this moment still has the file open.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def _refuse_an_older_driver(folder: Path, patience_s: float) -> None:
    """A study's driver without a lease is known by the status that it writes every second."""
    driver = _Driver.read(folder / STATUS_FILE)
    if (folder / LEASE_FILE).exists() or driver.state != "running":
        return
    alive = is_alive(driver)
    if alive is None:
        alive = moves(folder / STATUS_FILE, patience_s)
    if alive:
        raise InUse(_in_use(folder, driver))


def _in_use(folder: Path, process: Process) -> str:
    known = process.pid is not None and process.host is not None
    owner = f"process {process.pid} on {process.host}" if known else "another process"
    return f"{folder} is in use by {owner}: wait until it ends, or choose another --name or --output"
