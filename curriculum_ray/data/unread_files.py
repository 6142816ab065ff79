"""Files of an image folder that are not read, by kind: the user may have meant some of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from curriculum_ray.data.embeddings import EMBEDDINGS_FILE
from curriculum_ray.data.images import is_encoded_image
from curriculum_ray.data.suffixes import SUFFIXES, UNREAD_SUFFIXES, USUAL
from curriculum_ray.data.summary import LeftOut, LeftOutTally
from curriculum_ray.data.walk import Walk, display_path

__all__ = ["no_images_error", "unread_files"]

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
"""Starts of the names of files that often accompany data."""
_START = 32


def unread_files(root: Path, walk: Walk, read: Collection[Path], decided: bool) -> tuple[LeftOut, ...]:
    """Tally the files that are neither images nor in `read`, by kind.

    decided: whether a condition was found, or none is wanted; otherwise tables and texts may hold
    annotations.
    """
    tally = LeftOutTally()
    for path in walk.files:
        suffix = path.suffix.lower()
        if suffix in SUFFIXES or path in read or path.name == EMBEDDINGS_FILE:
            continue
        kind, matters = _kind(path, suffix, decided)
        tally.add(kind, display_path(root, path), matters=matters)
    return tally.found


def no_images_error(root: Path, walk: Walk) -> str:
    """Describe a folder without images: what it has instead, and the setting that reads it."""
    line = f"{root} must hold images ({USUAL}), but has none"
    shards = {"parquet": ".parquet", "webdataset": ".tar"}
    for name, suffix in shards.items():
        count = sum(path.suffix.lower() == suffix for path in walk.files)
        if count:
            return f"{line}: data.format {name} reads its {count} {suffix} files"
    others = [*walk.left_out, *unread_files(root, walk, (), decided=True)]
    return f"{line}; left out: {'; '.join(map(str, others[:4]))}" if others else line


def _kind(path: Path, suffix: str, decided: bool) -> tuple[str, bool]:
    if suffix in UNREAD_SUFFIXES:
        return f"images in an unsupported format ({suffix})", True
    if suffix in _ARCHIVES and suffix != ".parquet":
        return f"archives beside the images ({suffix})", True
    if suffix in _VIDEOS:
        return f"videos ({suffix})", True
    if suffix in _TABLES:
        # They may hold captions or labels, if none were found elsewhere.
        ordinary = path.stem.lower().startswith(_ORDINARY) or path.stem.lower().endswith("_stats")
        return f"tables and texts that are not read ({suffix})", not decided and not ordinary
    if _is_image(path):
        return f"images without an image suffix ({suffix or 'none'})", True
    return f"other files ({suffix or 'without a suffix'})", False


def _is_image(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return is_encoded_image(file.read(_START))
    except OSError:
        return False
