"""Names of studies and runs: each becomes the name of a folder, and part of other names."""

from __future__ import annotations

import os

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import fits_a_line, shown

__all__ = ["check_name", "checked_name"]

# Less than a file system's 255, to leave room for prefixes and suffixes.
_LONGEST = 200


def check_name(name: str) -> None:
    """Raise ValueError for a name that no folder can have, or that does not fit on one line."""
    if name in ("", ".", "..") or "/" in name or not fits_a_line(name):
        raise ValueError(f"a name must be one that a folder can have, but got {shown(name)}")
    if len(os.fsencode(name)) > _LONGEST:
        raise ValueError(f"a name has {_LONGEST} bytes at most, but got {shown(name)}")


def checked_name(given: str | None, default: str) -> str:
    """The given name, or the default; ConfigError where the default is invalid, as it contains the data's name."""
    name = given or default
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"{error}: choose another --name") from None
    return name
