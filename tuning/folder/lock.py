"""One driver per folder: a second one would resume the first one's trials and overwrite its files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.files import remove_half_written
from tuning.folder.layout import LEASE_FILE, LOCK_FILE, STATUS_FILE
from tuning.folder.lease import Lease, Taken
from tuning.folder.process import ProcessIdentity, is_alive, moves

__all__ = ["InUse", "held"]

_PATIENCE_S = 30.0


class InUse(ConfigError):
    """Another process works in the folder."""


class _Driver(ProcessIdentity):
    """The part of a status that is needed, also from an earlier release."""

    state: str | None = None


@contextmanager
def held(
    folder: Path, patience_s: float = _PATIENCE_S, at_end: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold `folder`, created if missing, for this process; raises InUse, one line, while another holds it.

    The kernel releases the lock when the process ends, however it ends. For file systems without locks, or with locks
    per machine, there is also a lease, which its holder renews every second. The lease of a process that cannot be seen
    from here is watched for `patience_s` seconds, so the clocks of other machines do not matter.

    What a holder that was killed left half-written is removed first. at_end: called where nothing was raised, after the
    lease, while the lock still keeps others on this machine out.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not inherited by child processes: those of Ray may outlive this one.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(_in_use(folder, ProcessIdentity.read(folder / LEASE_FILE))) from None
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
            remove_half_written(folder)
            try:
                yield
            finally:
                lease.release()
            at_end()
        finally:
            # Closing is not enough: a process that another thread forks at this moment still has the file open.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def _refuse_an_older_driver(folder: Path, patience_s: float) -> None:
    """A study's driver of a release without leases is detected by the status that it writes every second."""
    driver = _Driver.read(folder / STATUS_FILE)
    if (folder / LEASE_FILE).exists() or driver.state != "running":
        return
    alive = is_alive(driver)
    if alive is None:
        alive = moves(folder / STATUS_FILE, patience_s)
    if alive:
        raise InUse(_in_use(folder, driver))


def _in_use(folder: Path, process: ProcessIdentity) -> str:
    known = process.pid is not None and process.host is not None
    owner = f"process {process.pid} on {process.host}" if known else "another process"
    return f"{folder} is in use by {owner}: wait until it ends, or choose another --name or --output"
