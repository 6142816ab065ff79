"""The meaning of image folders: splits, classes, parts of one set, or kohya-style repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import PurePosixPath
from unicodedata import normalize

from curriculum_ray.config import ConfigError
from curriculum_ray.data.splits import choose_split, split_of_folder

__all__ = ["Layout", "Repeats", "are_parts", "read_layout", "read_repeats"]

# Folders that only wrap a data set.
_WRAPPERS = {
    "data",
    "dataset",
    "datasets",
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "jpg",
    "jpeg",
    "jpegimages",
    "png",
    "raw",
    "all",
}
# Folders beside images that are no class.
_COMPANIONS = {
    "images",
    "imgs",
    "masks",
    "mask",
    "labels",
    "annotations",
    "segmentation",
    "segmentations",
    "depth",
    "edges",
    "thumbnails",
}
_NUMBERS = re.compile(r"\d{4,}")
_PARTS = re.compile(r"(part|shard|chunk|batch|block)[-_ ]?\d+", re.IGNORECASE)
_REPEATS = re.compile(r"([1-9]\d{0,3})_(\S.*)")


@dataclass(frozen=True)
class Layout:
    """How the images of a folder are organised."""

    kept: tuple[int, ...]
    """Indices of the images in the split that is read."""
    classes: tuple[str, ...]
    """The folder of each of these images within its split, "" if it is in none."""
    base: PurePosixPath | None
    """The folder within the data that holds the class folders; None if several do."""
    splits: Mapping[str, int]
    split: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Repeats:
    """Kohya-style folders `N_name`: repeats of each image, and the name that replaces a missing caption."""

    times: tuple[int, ...]
    names: tuple[str, ...]
    note: str


def read_layout(paths: Sequence[PurePosixPath], requested: str | None, place: str) -> Layout:
    """Interpret the folders of images at `paths`, relative to the data set `place`; requested: `data.split`.

    Folders are splits if their names denote one (`split_of_folder`) and all images are in such folders, at
    the top or directly below classes; the first remaining folder of a path is the class. Folders that wrap
    everything are skipped.
    """
    folders = [path.parts[:-1] for path in paths]
    depth = _wrapped(folders, 0)
    notes: list[str] = []
    splits: list[str] = []
    at = None
    if requested != "none":
        at = next((level for level in (depth, depth + 1) if _all_splits(folders, level)), None)
        if at is None:
            notes += _mixed(folders, depth, place)
        else:
            splits = [split_of_folder(parts[at]) or "" for parts in folders]
    chosen, counts, note = choose_split(
        None if requested == "none" else requested, splits or [""] * len(paths), place
    )
    notes += [note] if note else []
    kept = [index for index in range(len(paths)) if chosen in ("", "all") or splits[index] == chosen]
    within = [folders[index] if at is None else _without(folders[index], at) for index in kept]
    top = depth
    depth = _wrapped(within, depth)
    classes = tuple(parts[depth] if len(parts) > depth else "" for parts in within)
    first = folders[kept[0]]
    alone = at is None or (at == top and chosen != "all")
    base = PurePosixPath(*first[: depth + (at is not None)]) if alone else None
    if len({*classes}) == 1 and classes[0]:
        below = sorted({parts[depth + 1] for parts in within if len(parts) > depth + 1})
        if len(below) > 1:
            notes.append(
                f"all images are in {classes[0]}, whose folders {_few(below)} are not read as classes: "
                f"data.name {place.rstrip('/')}/{classes[0]} does so"
            )
    notes += _odd_classes(sorted({*classes} - {""}), place)
    return Layout(tuple(kept), classes, base, counts, chosen if at is not None else "", tuple(notes))


def are_parts(classes: Sequence[str]) -> tuple[bool, bool]:
    """Return whether all folders are numbered like parts of one set, and whether they are named as parts."""
    names = {*classes}
    named = all(_PARTS.fullmatch(name) for name in names)
    return named or all(_NUMBERS.fullmatch(name) for name in names), named


def read_repeats(classes: Sequence[str]) -> Repeats | None:
    """Return the repeats if all folders are named `N_name`, reduced: 10 and 5 become 2 and 1."""
    found = [_REPEATS.fullmatch(name) for name in classes]
    asked = [(int(each[1]), each[2]) for each in found if each]
    if len(asked) < len(classes) or not classes:
        return None
    common = gcd(*(times for times, _ in asked))
    times = tuple(times // common for times, _ in asked)
    often = {name: int(name.split("_")[0]) // common for name in sorted({*classes})}
    shares = ", ".join(f"{name} {'once' if n == 1 else f'{n} times'}" for name, n in often.items())
    note = (
        f"folders {_few(sorted({*classes}))} are read as kohya-style repeats (per epoch: {shares}): "
        "data.repeats false reads each once, data.conditioning class reads the folders as classes"
    )
    return Repeats(times, tuple(name for _, name in asked), note)


def _odd_classes(names: Sequence[str], place: str) -> list[str]:
    """Return notes on folders that may not be classes, or may be two spellings of one class."""
    notes = []
    companions = [name for name in names if name.lower() in _COMPANIONS]
    if companions and len(names) > 1:
        notes.append(
            f"the folder {companions[0]} is read as a class, like "
            f"{_few([name for name in names if name != companions[0]])}: "
            f"data.name {place.rstrip('/')}/{companions[0]} reads only this folder"
        )
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(normalize("NFC", name).casefold(), name)
        if other != name:
            notes.append(
                f"folders {other} and {name} are two classes, although they differ only in case or spelling"
            )
    return notes


def _wrapped(folders: Sequence[tuple[str, ...]], depth: int) -> int:
    """Return the depth below folders that only wrap everything else."""
    while True:
        names = {parts[depth] if len(parts) > depth else "" for parts in folders}
        deeper = any(len(parts) > depth + 1 for parts in folders)
        if len(names) > 1 or not deeper or next(iter(names)).lower() not in _WRAPPERS:
            return depth
        depth += 1


def _all_splits(folders: Sequence[tuple[str, ...]], level: int) -> bool:
    return all(len(parts) > level and split_of_folder(parts[level]) for parts in folders)


def _mixed(folders: Sequence[tuple[str, ...]], depth: int, place: str) -> list[str]:
    """Refuse split folders beside others, or note that a single one is read as a class."""
    names = Counter(parts[depth] for parts in folders if len(parts) > depth)
    found = sorted(name for name in names if split_of_folder(name))
    others = sorted(name for name in names if not split_of_folder(name))
    if not found or not others:
        return []
    if len({split_of_folder(name) for name in found}) > 1:
        raise ConfigError(
            f"{place} has split folders ({_few(found)}) beside others ({_few(others)}): name one of them as "
            "data.name, or read all as classes with data.split none"
        )
    return [
        f"the folder {found[0]} is read as a class, like {_few(others)}, not as a split: "
        f"data.name {place.rstrip('/')}/{found[0]} reads only this folder"
    ]


def _without(parts: tuple[str, ...], at: int) -> tuple[str, ...]:
    return parts[:at] + parts[at + 1 :]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
