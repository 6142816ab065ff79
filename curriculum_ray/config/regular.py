"""Files that somebody else may have put there, read only where they are files that end."""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = ["check_regular", "read_regular"]


def read_regular(path: Path) -> bytes:
    """The content of a file; OSError where there is none, or a pipe or a device, which may never end."""
    check_regular(path)
    return path.read_bytes()


def check_regular(path: Path) -> None:
    """Raise OSError where there is a pipe or a device, which to open may block."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
