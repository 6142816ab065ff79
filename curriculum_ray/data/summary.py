"""The summary of a data set: what was found, what is used, and what is left out and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Protocol

from torch import Tensor

from curriculum_ray.config.shown import printable
from curriculum_ray.words import number_of

__all__ = ["DataSummary", "DataWarning", "ImageStats", "LeftOut", "LeftOutTally", "quiet", "warn_of"]

_MOST = 12
"""Classes, splits or kinds that the text lists; `as_json` has all."""


class Described(Protocol):
    """The attributes of a data set in memory that the summary counts."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def condition(self) -> Tensor | None: ...

    @property
    def conditioning(self) -> object: ...

    def __len__(self) -> int: ...


class DataWarning(UserWarning):
    """Something that users should know about how their data is read; the summary has it too."""


@dataclass(frozen=True)
class LeftOut:
    """Files, members or items that are not used, for one reason."""

    kind: str
    count: int
    example: str
    matters: bool = False
    """Whether some of them may be data that the user would miss: images, shards or captions."""

    def __str__(self) -> str:
        return f"{self.count:,} {self.kind}, e.g. {self.example}"


class LeftOutTally:
    """Counts of what is left out, by reason, with the first example of each."""

    def __init__(self) -> None:
        self._found: dict[str, LeftOut] = {}

    def add(self, kind: str, example: str, count: int = 1, matters: bool = False) -> None:
        """Add `count`; an example that matters replaces one that does not."""
        known = self._found.get(kind)
        if known is None:
            self._found[kind] = LeftOut(kind, count, example, matters)
            return
        shown = example if matters and not known.matters else known.example
        self._found[kind] = LeftOut(kind, known.count + count, shown, known.matters or matters)

    @property
    def found(self) -> tuple[LeftOut, ...]:
        """All kinds, in order of first occurrence."""
        return tuple(self._found.values())


@dataclass(frozen=True)
class ImageStats:
    """Statistics of the inspected images: all of a data set, or some."""

    images: int = 0
    """Images inspected."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Images of each size, `WIDTHxHEIGHT`, most frequent first."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """Images of each Pillow mode (RGB, L, P, RGBA, CMYK, ...)."""
    duplicates: int = 0
    """Images whose file has the same content as an earlier one."""
    duplicate: tuple[str, ...] = ()
    """The first such pair."""
    animated: int = 0
    """Images with several frames, of which the first is read."""


@dataclass(frozen=True)
class DataSummary:
    """The summary of a data set that the user sees before anything starts."""

    MADE_BY: ClassVar[str] = "curriculum-ray"
    """Marks the JSON file as written by this project."""

    name: str
    format: str
    """embedded, folder, parquet, webdataset or latents."""
    path: str = ""
    items: int = 0
    """Items in the set or split that is read, including held-out ones."""
    held_out: int = 0
    """Items that are never trained on."""
    held_out_from: str = ""
    """How the held-out items were chosen."""
    files: int = 0
    """Files found, including hidden ones."""
    used: int = 0
    """Files that are read: images, shards and annotations."""
    left_out: tuple[LeftOut, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    """Images (or shards) of each split that was found."""
    split: str = ""
    """The split that is read, if there are splits."""
    conditioning: str = ""
    """The kind and size of the condition."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Items of each class."""
    conditioning_from: str = ""
    """The source of labels or captions."""
    unlabelled: int = 0
    """Items without a label or caption, if others have one."""
    shape: tuple[int, ...] = ()
    """Shape of an item as it is trained on."""
    image_stats: ImageStats = field(default_factory=ImageStats)
    notes: tuple[str, ...] = ()
    """How the data is read where there is a choice, with the setting that decides."""

    def of(self, data: Described) -> DataSummary:
        """Return the summary with the counts of items and conditions of `data`."""
        condition = data.condition
        classes: dict[str, int] = {}
        unlabelled = 0
        if condition is not None and condition.ndim == 1:
            counts = (condition + 1).bincount(minlength=len(data.class_names) + 1).tolist()
            classes, unlabelled = dict(zip(data.class_names, counts[1:], strict=True)), counts[0]
        elif condition is not None:
            unlabelled = int((condition.flatten(1) == 0).all(1).sum())
        return replace(
            self,
            items=len(data),
            conditioning=str(data.conditioning),
            classes=classes,
            unlabelled=unlabelled,
        )

    def as_json(self) -> dict[str, Any]:
        """Convert to JSON values, with every name printable: a file's may be no text, or have several lines."""
        return {"version": 2, "made_by": self.MADE_BY, **_printable(asdict(self))}

    def lines(self) -> Iterator[str]:
        """Format the summary for a terminal, with every name printable."""
        yield from map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        source = f" ({self.path})" if self.path else ""
        items = number_of(f"{self.items:,}", "item")
        yield f"data        {self.name}{source}: {items} of {_shape(self.shape)}, {self.conditioning}"
        if self.held_out:
            yield f"  held out  {self.held_out:,}, never trained on: {self.held_out_from}"
        if self.files:
            yield f"  files     {self.files:,} found, {self.used:,} used"
        if self.splits:
            yield f"  splits    {_counts(self.splits)}; read: {self.split}"
        if self.conditioning_from:
            yield f"  condition from {self.conditioning_from}"
        if self.classes:
            yield f"  classes   {_counts(self.classes)}"
        if self.unlabelled:
            yield f"  missing   {self.unlabelled:,} of {self.items:,} items have no label or caption"
        if self.image_stats.images:
            yield from self._image_lines()
        for each in self.left_out:
            yield f"  left out  {each}"
        for note in self.notes:
            yield f"  note      {note}"

    def _image_lines(self) -> Iterator[str]:
        stats = self.image_stats
        partial = self.format != "folder" and stats.images < self.items
        scope = f" (of {stats.images:,} inspected)" if partial else ""
        yield f"  sizes     {_counts(stats.sizes, 4)}{scope}"
        yield f"  modes     {_counts(stats.modes)}{scope}"
        pair = f", e.g. {' and '.join(stats.duplicate)}" if stats.duplicate else ""
        yield f"  repeated  {stats.duplicates:,} images duplicate another{pair}{scope}"
        if stats.animated:
            yield f"  animated  {stats.animated:,} images, of which the first frame is read{scope}"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress `DataWarning` where the summary is printed, or another process has warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def warn_of(summary: DataSummary, stacklevel: int = 3) -> None:
    """Warn about what the user could miss: one line per note, and one for data that is left out."""
    for note in summary.notes:
        warnings.warn(f"{summary.path}: {note}", DataWarning, stacklevel=stacklevel)
    lost = [str(each) for each in summary.left_out if each.matters]
    if lost:
        warnings.warn(f"{summary.path}: left out: {'; '.join(lost)}", DataWarning, stacklevel=stacklevel)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list | tuple) else value


def _counts(found: Mapping[str, int], most: int = _MOST) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(found.items())[:most]]
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return f"{', '.join(shown)}{more}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "numbers"
