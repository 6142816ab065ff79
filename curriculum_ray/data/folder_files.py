"""The image files of a folder: which are read, by what is known of them before that, and their squares."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from curriculum_ray.config import ConfigError
from curriculum_ray.data.annotations import Annotations, read_annotations
from curriculum_ray.data.images import DEFAULT_SIZE, Header, Square, list_failures, read_header, to_square
from curriculum_ray.data.layout import Layout, read_layout
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.suffixes import SUFFIXES
from curriculum_ray.data.summary import LeftOut
from curriculum_ray.data.unread_files import no_images_error
from curriculum_ray.data.walk import Walk, find_files

__all__ = ["THREADS", "FolderFiles", "Readable", "find_images", "read_headers", "read_squares", "side_of"]

Found = TypeVar("Found")

THREADS = min(8, os.cpu_count() or 1)
"""Threads that read images."""
_NAMED = 100
"""Skipped images that are named; the others are counted."""
_AT_A_TIME = 4096
"""Images that are waited for at a time."""


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder, and what its images are."""

    root: Path
    walk: Walk
    every: tuple[Path, ...]
    """The images of all splits."""
    paths: tuple[Path, ...]
    """Those of the split that is read, sorted."""
    layout: Layout
    """Of `paths`."""
    annotations: Annotations


def find_images(spec: DataSpec) -> FolderFiles:
    """Find the images under `spec.name`, and read the tables and texts beside them; ConfigError without images."""
    root = Path(spec.name)
    walk = find_files(root, SUFFIXES)
    every = tuple(path for path in walk.files if path.suffix.lower() in SUFFIXES)
    if not every:
        raise ConfigError(no_images_error(root, walk))
    layout = read_layout([PurePosixPath(path.relative_to(root)) for path in every], spec.split, str(root))
    paths = tuple(every[index] for index in layout.kept)
    return FolderFiles(root, walk, every, paths, layout, read_annotations(root, walk.files, every, spec))


@dataclass(frozen=True)
class Readable(Generic[Found]):
    """The images of a folder that can be read."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    """The folder of each; see `Layout`."""
    found: tuple[Found, ...]
    """What was read of each."""
    left_out: tuple[LeftOut, ...]
    """The others."""


def side_of(spec: DataSpec) -> int:
    """The side of the squares that are trained on, in pixels."""
    return spec.image_size or DEFAULT_SIZE


def read_squares(files: FolderFiles, spec: DataSpec) -> Readable[Square]:
    """Read all images. Broken ones raise `ConfigError`, or are left out with a warning if `spec.corrupt` is skip."""
    side = side_of(spec)
    return _read(files, spec, lambda path: to_square(path.read_bytes(), side))


def read_headers(files: FolderFiles, spec: DataSpec) -> Readable[Header]:
    """Like `read_squares`, of the first bytes: what is broken further on is not noticed."""
    return _read(files, spec, read_header)


def _read(files: FolderFiles, spec: DataSpec, read: Callable[[Path], Found]) -> Readable[Found]:
    def attempt(path: Path) -> Found | Exception:
        try:
            # Opening a pipe would block until it has a writer.
            if path.exists() and not path.is_file():
                raise ValueError("not a regular file")
            return read(path)
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            return error

    root, paths, classes = files.root, files.paths, files.layout.classes
    results: list[Found | Exception] = []
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for start in range(0, len(paths), _AT_A_TIME):
            results += pool.map(attempt, paths[start : start + _AT_A_TIME])
    kept, found, failed = [], [], []
    for number, result in enumerate(results):
        if isinstance(result, Exception):
            failed.append(f"{paths[number].relative_to(root)} ({type(result).__name__})")
        else:
            kept.append(number)
            found.append(result)
    readable = Readable(
        tuple(paths[number] for number in kept), tuple(classes[number] for number in kept), tuple(found), ()
    )
    if not failed:
        return readable
    what = f"{len(failed)} of {len(paths)} cannot be read"
    if spec.corrupt == "refuse" or not found:
        raise ConfigError(
            f"{root} must hold readable images of 8 bits per channel, but {what}: {list_failures(failed)}"
        )
    gone = sorted({*classes} - {*readable.classes})
    if gone:
        what = f"{what}, which leaves none in {list_failures(gone)}"
    names = "\n".join(failed[:_NAMED])
    more = f"\nand {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    warnings.warn(f"images of {root} were skipped: {what}:\n{names}{more}", stacklevel=5)
    return replace(readable, left_out=(LeftOut("unreadable images", len(failed), failed[0]),))
