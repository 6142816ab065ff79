"""What a pass over the headers of one shard tells of it, and how its rows are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import LeftOut

__all__ = ["Fetch", "Header", "Names", "Unit", "Wish"]

Wish = Literal["class", "text", "none"]
"""What is to be told of each image: its label, its caption, or nothing."""

Fetch = Callable[[int], tuple[bytes, int | str | None]]
"""From a row of a unit to its encoded image, and its label or caption; None where it has none."""


@dataclass(frozen=True)
class Names:
    """The columns, keys or members that a person names; None for the usual ones."""

    image: str | None = None
    caption: str | None = None
    label: str | None = None
    others: bool = False
    """Whether labels may have another usual name than `label` or `.cls`: they come after captions then."""

    @classmethod
    def of(cls, spec: DataSpec) -> Names:
        """Those that the settings name."""
        return cls(spec.image_column, spec.caption_column, spec.label_column)


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
    """The different labels or captions that `wish` asks for, without empty ones; -1 is no label."""
    tells: bool = False
    """Whether the shard says labels or captions at all, be they empty."""
    bare: tuple[str, ...] = ()
    """Samples without an image."""
    counts: tuple[int, ...] = ()
    """Images of each of `told`."""
    source: str = ""
    """The column, key or member that `told` is from."""
    class_names: tuple[str, ...] = ()
    """Names of the labels 0, 1, ..., where the shard has some (ClassLabel of Hugging Face datasets)."""
    image: str = ""
    """The column or member that the images are from."""
    left_out: tuple[LeftOut, ...] = ()
    """Members that are not read."""
    unread: tuple[str, ...] = ()
    """Columns, keys or members that may be captions or labels, but are not read."""
    split_column: str = ""
    """A column that says of which split each row is; it is not read."""
    splits: tuple[tuple[str, int], ...] = ()
    """Rows of each of its splits."""

    @property
    def rows(self) -> int:
        """Images in all units."""
        return sum(unit.rows for unit in self.units)
