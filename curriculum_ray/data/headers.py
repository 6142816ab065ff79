"""What a pass over the headers of one shard tells of it, and how its rows are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fetch", "Header", "Unit", "Wish"]

Wish = Literal["class", "text", "none"]
"""What is to be told of each image: its label, its caption, or nothing."""

Fetch = Callable[[int], tuple[bytes, int | str | None]]
"""From a row of a unit to its encoded image, and its label or caption; None where it has none."""


@dataclass(frozen=True)
class Unit:
    """What is read at a time: a row group of a Parquet file, a tar file, or a file of latents."""

    path: str
    group: int
    rows: int


@dataclass(frozen=True)
class Header:
    """One shard of images as its headers have it."""

    path: str
    wish: Wish
    units: tuple[Unit, ...]
    told: tuple[int | str, ...] = ()
    """The different labels or captions that `wish` asks for, without empty ones."""
    tells: bool = False
    """Whether the shard says labels or captions at all, be they empty."""
    bare: tuple[str, ...] = ()
    """Samples without an image."""

    @property
    def rows(self) -> int:
        """Images in all units."""
        return sum(unit.rows for unit in self.units)
