"""What is in a data set, what is used of it, what is left out and why: one type that every reader fills."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Protocol

from torch import Tensor

from curriculum_ray.config.shown import printable

__all__ = ["DataSummary", "DataWarning", "LeftOut", "Look", "Tally", "quiet", "warn_of"]

_MOST = 12
"""Classes, splits or kinds that the text names; `as_json` has all."""


class Described(Protocol):
    """What the summary counts of a data set in memory."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def condition(self) -> Tensor | None: ...

    @property
    def conditioning(self) -> object: ...

    def __len__(self) -> int: ...


class DataWarning(UserWarning):
    """Something that a person should know of how their data is read; it stands in the summary too."""


@dataclass(frozen=True)
class LeftOut:
    """Files, members or items that are not used, for one reason."""

    kind: str
    count: int
    example: str
    matters: bool = False
    """Whether some of them may be data: images, shards or captions that somebody could miss."""

    def __str__(self) -> str:
        return f"{self.count:,} {self.kind}, e.g. {self.example}"


class Tally:
    """Counts what is left out by reason, with the first example of each."""

    def __init__(self) -> None:
        self._found: dict[str, LeftOut] = {}

    def add(self, kind: str, example: str, count: int = 1, matters: bool = False) -> None:
        """Count `count` more; an example that matters is shown before one that does not."""
        known = self._found.get(kind)
        if known is None:
            self._found[kind] = LeftOut(kind, count, example, matters)
            return
        shown = example if matters and not known.matters else known.example
        self._found[kind] = LeftOut(kind, known.count + count, shown, known.matters or matters)

    @property
    def found(self) -> tuple[LeftOut, ...]:
        """All kinds, in the order in which they were first seen."""
        return tuple(self._found.values())


@dataclass(frozen=True)
class Look:
    """What looking at images showed: at all of them, or at some."""

    images: int = 0
    """Images looked at."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Images of each size, `width x height`, the most frequent first."""
    modes: Mapping[str, int] = field(default_factory=dict)
    """Images of each mode of Pillow (RGB, L, P, RGBA, CMYK, ...)."""
    duplicates: int = 0
    """Images whose file has the same content as an earlier one's."""
    duplicate: tuple[str, ...] = ()
    """The first such pair."""
    animated: int = 0
    """Images of several frames, of which the first is read."""


@dataclass(frozen=True)
class DataSummary:
    """The face of a data set to a person, before anything is started."""

    MADE_BY: ClassVar[str] = "curriculum-ray"
    """Stands in the JSON, so that a command knows a file as its own."""

    name: str
    format: str
    """embedded, folder, parquet, webdataset or latents."""
    path: str = ""
    items: int = 0
    """Items in the set or split that is read, with those that are held out of it."""
    held_out: int = 0
    """Items that nothing is trained on."""
    held_out_from: str = ""
    """How they were chosen, in words."""
    files: int = 0
    """Files found, hidden ones too."""
    used: int = 0
    """Files that are read: images, or shards."""
    left_out: tuple[LeftOut, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    """Images (or shards) of each split that was found."""
    split: str = ""
    """The split that is read, where there are some."""
    told: str = ""
    """What the network is told, in words."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Items of each class."""
    told_from: str = ""
    """Where labels or captions come from."""
    unlabelled: int = 0
    """Items without a label or a caption, where the others have one."""
    shape: tuple[int, ...] = ()
    """Of an item as it is trained on."""
    look: Look = field(default_factory=Look)
    notes: tuple[str, ...] = ()
    """Lines on how the data is read where it could be read otherwise, with the setting that chooses."""

    def of(self, data: Described) -> DataSummary:
        """With the counts of what is told of the items of `data`."""
        told = data.condition
        classes: dict[str, int] = {}
        unlabelled = 0
        if told is not None and told.ndim == 1:
            counts = (told + 1).bincount(minlength=len(data.class_names) + 1).tolist()
            classes, unlabelled = dict(zip(data.class_names, counts[1:], strict=True)), counts[0]
        elif told is not None:
            unlabelled = int((told.flatten(1) == 0).all(1).sum())
        return replace(
            self, items=len(data), told=str(data.conditioning), classes=classes, unlabelled=unlabelled
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {"version": 1, "made_by": self.MADE_BY, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The summary as text for a terminal, whatever signs the names of files and classes hold."""
        yield from map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        source = f" ({self.path})" if self.path else ""
        yield f"data        {self.name}{source}: {self.items:,} items of {_shape(self.shape)}, {self.told}"
        if self.held_out:
            yield f"  held out  {self.held_out:,}, never trained on: {self.held_out_from}"
        if self.files:
            yield f"  files     {self.files:,} found, {self.used:,} used"
        if self.splits:
            yield f"  splits    {_counts(self.splits)}; read: {self.split}"
        if self.told_from:
            yield f"  told      from {self.told_from}"
        if self.classes:
            yield f"  classes   {_counts(self.classes)}"
        if self.unlabelled:
            yield f"  not told  {self.unlabelled:,} of {self.items:,} items"
        if self.look.images:
            yield from self._looks()
        for each in self.left_out:
            yield f"  left out  {each}"
        for note in self.notes:
            yield f"  note      {note}"

    def _looks(self) -> Iterator[str]:
        look = self.look
        most = (
            f" (of {look.images:,} looked at)" if self.format != "folder" and look.images < self.items else ""
        )
        yield f"  sizes     {_counts(look.sizes, 4)}{most}"
        yield f"  modes     {_counts(look.modes)}{most}"
        pair = f", e.g. {' and '.join(look.duplicate)}" if look.duplicate else ""
        yield f"  repeated  {look.duplicates:,} images have the content of another{pair}{most}"
        if look.animated:
            yield f"  animated  {look.animated:,} images have several frames, of which the first is read{most}"


@contextmanager
def quiet() -> Iterator[None]:
    """No `DataWarning`: where the summary is printed, or another process has warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def warn_of(summary: DataSummary, stacklevel: int = 3) -> None:
    """Warn of what a person could miss: a line for each note, and one for data that is left out."""
    for note in summary.notes:
        warnings.warn(f"{summary.path}: {note}", DataWarning, stacklevel=stacklevel)
    lost = [str(each) for each in summary.left_out if each.matters]
    if lost:
        warnings.warn(f"{summary.path}: left out are {'; '.join(lost)}", DataWarning, stacklevel=stacklevel)


def _counts(found: Mapping[str, int], most: int = _MOST) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(found.items())[:most]]
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return f"{', '.join(shown)}{more}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "numbers"
