"""Atomic file writes, locks between processes, and checks for new folders."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curriculum_ray.config import ConfigError

__all__ = ["alone", "check_new_folder", "remove_half_written", "replace_file"]


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process or thread on this machine holds `lock`, a file that is created if missing."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_new_folder(folder: Path, option: str) -> None:
    """Raise ConfigError, naming `option`, if a folder is neither new nor empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{option} must be a new or empty folder, but {folder} is not")


def replace_file(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write `path` under a temporary name and rename it: readers see either the old or the new content.

    durable: whether it is on disk when this returns. Raises OSError, which names a file, and leaves no partial one;
    only a kill does, see `remove_half_written`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a write on a full disk names none
        raise


def remove_half_written(folder: Path) -> None:
    """Remove, at any depth, the temporary files of `replace_file` that killed processes left.

    No process but this one may be writing there.
    """
    for path in folder.rglob(".*.[0-9]*.tmp"):
        if path.is_file() and path.suffixes[-2:] != [f".{os.getpid()}", ".tmp"]:
            path.unlink(missing_ok=True)
