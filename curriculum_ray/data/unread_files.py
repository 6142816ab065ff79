"""Files of an image folder that are not read, by what they are: a person may have meant some of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from curriculum_ray.data.embeddings import EMBEDDINGS_FILE
from curriculum_ray.data.images import is_encoded_image
from curriculum_ray.data.suffixes import SUFFIXES, UNREAD_SUFFIXES, USUAL
from curriculum_ray.data.summary import LeftOut, Tally
from curriculum_ray.data.walk import Walk, shown

__all__ = ["leftovers", "no_images"]

_TABLES = frozenset(
    [
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".txt",
        ".caption",
        ".captions",
        ".tags",
    ]
)
_ARCHIVES = frozenset(
    [
        ".zip",
        ".tar",
        ".tgz",
        ".gz",
        ".bz2",
        ".xz",
        ".zst",
        ".7z",
        ".rar",
        ".parquet",
        ".arrow",
        ".tfrecord",
        ".lmdb",
        ".mdb",
        ".h5",
        ".npz",
    ]
)
_VIDEOS = frozenset([".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"])
_ORDINARY = ("readme", "license", "licence", "requirements", "notice", "changelog", "dataset_info")
"""How files begin that lie beside any data."""
_START = 32


def leftovers(root: Path, walk: Walk, read: Collection[Path], told: bool) -> tuple[LeftOut, ...]:
    """Kinds of files that are neither images nor in `read`; told: whether the network is told something."""
    tally = Tally()
    for path in walk.files:
        suffix = path.suffix.lower()
        if suffix in SUFFIXES or path in read or path.name == EMBEDDINGS_FILE:
            continue
        kind, matters = _kind(path, suffix, told)
        tally.add(kind, shown(root, path), matters=matters)
    return tally.found


def no_images(root: Path, walk: Walk) -> str:
    """The error line for a folder without images: what it has instead, and the setting that reads it."""
    line = f"{root} must hold images ({USUAL}), but has none"
    shards = {"parquet": ".parquet", "webdataset": ".tar"}
    for name, suffix in shards.items():
        count = sum(path.suffix.lower() == suffix for path in walk.files)
        if count:
            return f"{line}: data.format {name} reads its {count} {suffix} files"
    others = [*walk.left_out, *leftovers(root, walk, (), told=True)]
    return f"{line}: left out are {'; '.join(map(str, others[:4]))}" if others else line


def _kind(path: Path, suffix: str, told: bool) -> tuple[str, bool]:
    if suffix in UNREAD_SUFFIXES:
        return f"images of a format that is not read ({suffix})", True
    if suffix in _ARCHIVES and suffix != ".parquet":
        return f"archives beside the images ({suffix})", True
    if suffix in _VIDEOS:
        return f"videos ({suffix})", True
    if suffix in _TABLES:
        # Somebody's captions or labels may stand there, and nothing else is told.
        ordinary = path.stem.lower().startswith(_ORDINARY) or path.stem.lower().endswith("_stats")
        return f"tables and texts that are not read ({suffix})", not told and not ordinary
    if _is_image(path):
        return f"images without an image's suffix ({suffix or 'none'})", True
    return f"other files ({suffix or 'without a suffix'})", False


def _is_image(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return is_encoded_image(file.read(_START))
    except OSError:
        return False
