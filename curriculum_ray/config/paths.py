"""The types of settings that hold paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pydantic

from curriculum_ray.config.shown import fits_a_line, shown

__all__ = ["LONGEST_NAME", "FilePath", "LocalPath", "absolute", "check_path"]


def absolute(path: str) -> str:
    """Make `path` absolute, keeping links: the workers of a run have other working folders than its user.

    Raises ValueError for a path that no file system allows.
    """
    try:
        found = Path(path).expanduser().absolute()
    except RuntimeError as error:  # an unknown user's home folder
        raise ValueError(f"{error} in {path}") from None
    check_path(found)
    return str(found)


def check_path(path: Path) -> None:
    """Raise ValueError if a path, or a name in it, is too long or has unprintable characters."""
    long = next((part for part in path.parts if len(os.fsencode(part)) > LONGEST_NAME), None)
    if long is not None:
        raise ValueError(f"names in a path must have at most {LONGEST_NAME} bytes, but got {shown(long)}")
    if len(os.fsencode(path)) >= _LONGEST_PATH:
        raise ValueError(f"a path must have fewer than {_LONGEST_PATH} bytes, but got {shown(str(path))}")
    if not fits_a_line(str(path)):
        raise ValueError(f"a path must have only printable characters, but got {shown(str(path))}")


LONGEST_NAME = 255
"""Bytes of a file name on every common file system."""
_LONGEST_PATH = 4096


def _checked(path: str) -> str:
    check_path(Path(path))
    return path


FilePath = Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(_checked)]
"""A path that is kept as written."""
LocalPath = Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(absolute)]
