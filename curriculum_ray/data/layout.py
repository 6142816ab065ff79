"""What the folders of images mean: splits, classes, parts of one set, or kohya-style repeats."""

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

# Folders that hold a data set and say nothing of it.
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
# Folders that lie beside images without being a class of them.
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
    """How the images of a folder lie."""

    kept: tuple[int, ...]
    """Which images are in the split that is read, by their number."""
    classes: tuple[str, ...]
    """The folder that each of these is in, within its split; "" where it is in none."""
    base: PurePosixPath | None
    """The folder within the data that holds the class folders; None where several do."""
    splits: Mapping[str, int]
    split: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Repeats:
    """Kohya-style folders `N_name`: how often each image comes, and the name that stands in for a caption."""

    times: tuple[int, ...]
    names: tuple[str, ...]
    note: str


def read_layout(paths: Sequence[PurePosixPath], wish: str | None, place: str) -> Layout:
    """Read the folders of images at `paths`, which are within the data set `place`; wish: `data.split`.

    Splits are folders whose names mean one (`split_of_folder`), at the top or right below classes, if all images are
    in such; what is then the first folder of a path is a class. Folders that wrap everything are passed through.
    """
    folders = [path.parts[:-1] for path in paths]
    depth = _wrapped(folders, 0)
    notes: list[str] = []
    splits: list[str] = []
    at = None
    if wish != "none":
        at = next((level for level in (depth, depth + 1) if _all_splits(folders, level)), None)
        if at is None:
            notes += _mixed(folders, depth, place)
        else:
            splits = [split_of_folder(parts[at]) or "" for parts in folders]
    chosen, counts, note = choose_split(None if wish == "none" else wish, splits or [""] * len(paths), place)
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
                f"all images lie in the folder {classes[0]}, whose folders {_few(below)} are not read as classes: "
                f"data.name {place.rstrip('/')}/{classes[0]} reads them so"
            )
    notes += _odd_classes(sorted({*classes} - {""}), place)
    return Layout(tuple(kept), classes, base, counts, chosen if at is not None else "", tuple(notes))


def are_parts(classes: Sequence[str]) -> tuple[bool, bool]:
    """Whether all folders are numbered like parts of one set, and whether their names say that they are."""
    names = {*classes}
    said = all(_PARTS.fullmatch(name) for name in names)
    return said or all(_NUMBERS.fullmatch(name) for name in names), said


def read_repeats(classes: Sequence[str]) -> Repeats | None:
    """The repeats that folders `N_name` ask for, if all are such; the share of each is what counts, so 10 and 5 are 2
    and 1."""
    found = [_REPEATS.fullmatch(name) for name in classes]
    asked = [(int(each[1]), each[2]) for each in found if each]
    if len(asked) < len(classes) or not classes:
        return None
    common = gcd(*(times for times, _ in asked))
    times = tuple(times // common for times, _ in asked)
    often = {name: int(name.split("_")[0]) // common for name in sorted({*classes})}
    shares = ", ".join(f"{name} comes {'once' if n == 1 else f'{n} times'}" for name, n in often.items())
    note = (
        f"folders {_few(sorted({*classes}))} are read as kohya-style repeats, each image of {shares} an epoch: "
        "data.repeats false reads each once, data.conditioning class reads the folders as classes"
    )
    return Repeats(times, tuple(name for _, name in asked), note)


def _odd_classes(names: Sequence[str], place: str) -> list[str]:
    """Lines on folders that may be no classes, or two spellings of one."""
    notes = []
    companions = [name for name in names if name.lower() in _COMPANIONS]
    if companions and len(names) > 1:
        notes.append(
            f"the folder {companions[0]} is read like {_few([name for name in names if name != companions[0]])}: "
            f"data.name {place.rstrip('/')}/{companions[0]} reads it alone"
        )
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(normalize("NFC", name).casefold(), name)
        if other != name:
            notes.append(
                f"folders {other} and {name} are two classes, though they differ in case or spelling alone"
            )
    return notes


def _wrapped(folders: Sequence[tuple[str, ...]], depth: int) -> int:
    """The depth below folders that hold everything and whose name says nothing."""
    while True:
        names = {parts[depth] if len(parts) > depth else "" for parts in folders}
        deeper = any(len(parts) > depth + 1 for parts in folders)
        if len(names) > 1 or not deeper or next(iter(names)).lower() not in _WRAPPERS:
            return depth
        depth += 1


def _all_splits(folders: Sequence[tuple[str, ...]], level: int) -> bool:
    return all(len(parts) > level and split_of_folder(parts[level]) for parts in folders)


def _mixed(folders: Sequence[tuple[str, ...]], depth: int, place: str) -> list[str]:
    """Refuse splits beside other folders, or note that one such name is read as a class."""
    names = Counter(parts[depth] for parts in folders if len(parts) > depth)
    found = sorted(name for name in names if split_of_folder(name))
    others = sorted(name for name in names if not split_of_folder(name))
    if not found or not others:
        return []
    if len({split_of_folder(name) for name in found}) > 1:
        raise ConfigError(
            f"{place} has folders of splits ({_few(found)}) beside others ({_few(others)}): name one of them as "
            "data.name, or read all as classes with data.split none"
        )
    return [
        f"the folder {found[0]} is read as a class, like {_few(others)}, and not as a split: "
        f"data.name {place.rstrip('/')}/{found[0]} reads it alone"
    ]


def _without(parts: tuple[str, ...], at: int) -> tuple[str, ...]:
    return parts[:at] + parts[at + 1 :]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
