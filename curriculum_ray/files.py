"""Files that are written whole or not at all, and folders that hold nothing yet."""

from __future__ import annotations

import os
from pathlib import Path

from curriculum_ray.config import ConfigError

__all__ = ["check_new_folder", "replace_file"]


def check_new_folder(folder: Path, option: str) -> None:
    """Refuse, by a ConfigError that names the `option` it came from, a folder that is neither new nor empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{option} must be a new or empty folder, but {folder} holds something")


def replace_file(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write `path` under another name beside it and rename: a reader sees all of it or what was there before.

    durable: whether it is on the disk when this returns. Raises OSError, and leaves nothing half written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
