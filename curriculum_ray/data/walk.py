"""The files of a folder, following links and leaving out junk that programs and systems create."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.data.summary import LeftOut, LeftOutTally

__all__ = ["Walk", "display_path", "find_files", "is_wanted", "junk_kind", "junk_within", "stays_below"]

# Folders and files that are never data. Names are compared in lower case.
_FOLDERS = {
    ".ipynb_checkpoints": "notebook checkpoints",
    "ipynb_checkpoints": "notebook checkpoints",
    "__macosx": "AppleDouble files",
    "$recycle.bin": "in the trash",
    "@recycle": "in the trash",
    "#recycle": "in the trash",
    "@eadir": "thumbnails of the system",
    "lost+found": "files of the system",
    "system volume information": "files of the system",
    "__pycache__": "files of the system",
    "_temporary": "half-transferred",
    "_delta_log": "files of the system",
}
_FILES = {
    "thumbs.db": "thumbnails of the system",
    "ehthumbs.db": "thumbnails of the system",
    "desktop.ini": "files of the system",
}
_HALF = [
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".tmp",
    ".temp",
    ".filepart",
    ".opdownload",
    ".incomplete",
    ".aria2",
    ".gstmp",
    ".!ut",
    ".!qb",
    ".bc!",
    ".inprogress",
    ".uploading",
    ".unfinished",
]
"""Suffixes of files that browsers, download and copy programs have not finished."""
_BACKUP = re.compile(r".*(~|\.bak|\.old|\.orig|\.swp|\.swo)$|^~\$.*|^#.*#$", re.DOTALL)


@dataclass(frozen=True)
class Walk:
    """The result of a walk."""

    files: tuple[Path, ...]
    """Sorted."""
    left_out: tuple[LeftOut, ...]


def junk_kind(name: str, folder: bool) -> str | None:
    """Return the kind of junk that a file or folder of this name is, or None if it may be data."""
    low = name.lower()
    if folder and low in _FOLDERS:
        return _FOLDERS[low]
    # Safari downloads into a folder.
    if folder and low.endswith(tuple(_HALF)):
        return "half-transferred"
    if low.startswith((".trash", ".local-trash")):
        return "in the trash"
    if not folder:
        if name.startswith("._"):
            return "AppleDouble files"
        if low in _FILES:
            return _FILES[low]
        if low.endswith(tuple(_HALF)):
            return "half-transferred"
        if _BACKUP.fullmatch(low):
            return "backup copies"
    return "hidden" if name.startswith(".") else None


def junk_within(path: str) -> str | None:
    """Return the kind of junk that a file is by its own name or that of a folder in its path, with "/" between them."""
    *folders, file = [part for part in path.split("/") if part not in ("", ".", "..")]
    kinds = [junk_kind(part, folder=True) for part in folders]
    return junk_kind(file, folder=False) or next(filter(None, kinds), None)


def stays_below(name: str) -> bool:
    """Whether a name that others gave, with "/" between folders, is a path below the folder that it is put into."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def find_files(root: Path, wanted: Collection[str]) -> Walk:
    """List every file under `root`; a folder is read once, under its own name, however many links lead to it.

    wanted: suffixes of the data, in lower case; left-out files that may have had one are marked. A folder
    that cannot be listed raises `ConfigError`.
    """

    def refuse(error: OSError) -> None:
        raise ConfigError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    tally = LeftOutTally()

    def leave(path: Path, kind: str) -> None:
        tally.add(kind, display_path(root, path), matters=is_wanted(path.name, wanted))

    seen: set[tuple[int, int]] = set()
    # Links come last: a folder within `root` keeps its own name.
    starts = [root]
    while starts:
        links: list[Path] = []
        for start in starts:
            for parent, folders, files in os.walk(start, onerror=refuse):
                state = os.stat(parent)
                if (state.st_dev, state.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((state.st_dev, state.st_ino))
                for name in folders:
                    if kind := junk_kind(name, folder=True):
                        for path in _below(Path(parent, name)):
                            leave(path, "AppleDouble files" if path.name.startswith("._") else kind)
                folders[:] = [name for name in folders if junk_kind(name, folder=True) is None]
                links += [Path(parent, name) for name in folders if os.path.islink(Path(parent, name))]
                here = set(files)
                for name in files:
                    kind = junk_kind(name, folder=False)
                    # aria2 keeps its control file beside a file until the download is complete.
                    if kind is None and f"{name}.aria2" in here:
                        kind = "half-transferred"
                    if kind is None:
                        found.append(Path(parent, name))
                    else:
                        leave(Path(parent, name), kind)
        starts = sorted(links)
    return Walk(tuple(sorted(found)), tally.found)


def display_path(root: Path, path: Path) -> str:
    """Return the path as messages name it: relative to `root`."""
    return path.relative_to(root).as_posix() if path != root else path.name


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files))


def is_wanted(name: str, wanted: Collection[str]) -> bool:
    """Return whether one of the name's suffixes is in `wanted`, even before another: a.png.part, a.png~."""
    return any(f".{part.rstrip('~#')}" in wanted for part in name.lower().split(".")[1:])
