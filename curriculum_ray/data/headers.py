"""The result of a scan of a shard's headers, and how its rows are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import LeftOut

__all__ = ["AnnotationKind", "Fetch", "Header", "Names", "Unit"]

AnnotationKind = Literal["class", "text", "none"]
"""The annotation to read for each image: its label, its caption, or none."""

Fetch = Callable[[int], tuple[bytes, int | str | None]]
"""Maps a row of a unit to its encoded image and its label or caption, None if it has none."""


@dataclass(frozen=True)
class Names:
    """Configured columns, keys or members; None for the usual names."""

    image: str | None = None
    caption: str | None = None
    label: str | None = None
    others: bool = False
    """Whether labels may have usual names other than `label` or `.cls`, which are tried after captions."""

    @classmethod
    def of(cls, spec: DataSpec) -> Names:
        """Return the names in the settings."""
        return cls(spec.image_column, spec.caption_column, spec.label_column)


@dataclass(frozen=True)
class Unit:
    """A part of the data that is read at once: a row group of a Parquet file, a tar file, or a file of latents."""

    path: str
    group: int
    rows: int


@dataclass(frozen=True)
class Header:
    """One shard of images, as described by its headers."""

    path: str
    wanted: AnnotationKind
    units: tuple[Unit, ...]
    values: tuple[int | str, ...] = ()
    """Distinct labels or captions, without empty ones; -1 is no label."""
    annotated: bool = False
    """Whether the shard has labels or captions at all, even if empty."""
    imageless: tuple[str, ...] = ()
    """Samples without an image."""
    counts: tuple[int, ...] = ()
    """Number of images with each of `values`."""
    source: str = ""
    """The column, key or member that holds `values`."""
    class_names: tuple[str, ...] = ()
    """Names of the labels 0, 1, ..., if the shard has them (ClassLabel of Hugging Face datasets)."""
    image: str = ""
    """The column or member that holds the images."""
    left_out: tuple[LeftOut, ...] = ()
    """Members that are not read."""
    unread: tuple[str, ...] = ()
    """Columns, keys or members that may hold captions or labels, but are not read."""
    split_column: str = ""
    """A column that names the split of each row; it is not read."""
    splits: tuple[tuple[str, int], ...] = ()
    """Number of rows of each of its splits."""

    @property
    def rows(self) -> int:
        """Number of images in all units."""
        return sum(unit.rows for unit in self.units)
