"""What a folder of images says of them: labels and captions, from tables or from files beside the images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.data.metadata import METADATA, WHOLE, Table, read_metadata, read_whole
from curriculum_ray.data.sidecars import SIDECARS, Sidecars, find_sidecars, read_sidecars
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text import same_name
from curriculum_ray.data.walk import shown

__all__ = ["Told", "caption_images", "read_told"]


@dataclass(frozen=True)
class Told:
    """Captions and labels by the name of an image within the data (see `same_name`), and where they are from."""

    captions: Mapping[str, str] = field(default_factory=dict)
    captions_from: str = ""
    beside: bool = False
    """Whether captions lie in a file beside each image."""
    labels: Mapping[str, int | str | None] = field(default_factory=dict)
    labels_from: str = ""
    files: frozenset[Path] = frozenset()
    """Files that were read."""
    notes: tuple[str, ...] = ()


def read_told(root: Path, files: Sequence[Path], images: Sequence[Path], spec: DataSpec) -> Told:
    """Find and read what `spec` asks for: metadata at any level, captions.json, .txt and .caption files.

    Where two say captions, metadata comes before files beside the images, with a note that names both; two tables in
    one folder, and .txt and .caption files that differ, raise `ConfigError`.
    """
    if spec.conditioning == "none":
        return Told()
    tables = _tables(root, files, spec)
    labels = {name: value for table in tables for name, value in table.labels.items()}
    labels_from = _source(root, [table for table in tables if table.labels], "label_column")
    if spec.label_column is not None and not labels_from:
        raise ConfigError(
            f"data.label_column {spec.label_column} needs {', '.join(METADATA)} with it, but {root} has none"
        )
    captioned = [table for table in tables if table.captions]
    captions = {name: text for table in captioned for name, text in table.captions.items()}
    captions_from = _source(root, captioned, "caption_column")
    read = {table.path for table in tables}
    notes = [table.note for table in tables if table.note]
    beside: list[Sidecars] = []
    wish = spec.caption_column or ""
    if spec.conditioning in (None, "text"):
        beside, used, note = _beside(root, files, images, wish)
        read |= used
        notes += [note] if note else []
    if wish and not wish.startswith(".") and not captions:
        raise ConfigError(
            f"data.caption_column {wish} needs {', '.join(METADATA)} with it, but {root} has none"
        )
    if beside and not (captions and wish and not wish.startswith(".")):
        suffixes = " and ".join(each.suffix for each in beside)
        if captions and not wish:
            notes.append(
                f"captions are read from {captions_from} and not from the {suffixes} files beside the images: "
                f"data.caption_column {beside[0].suffix} reads these"
            )
        else:
            captions = {name: text for each in reversed(beside) for name, text in each.captions.items()}
            captions_from = f"{suffixes} files beside the images"
    unread = [table for table in tables if table.unread]
    if not captions and unread and spec.conditioning is None:
        notes.append(
            f"{shown(root, unread[0].path)} has columns of text that are not read ({', '.join(unread[0].unread[:5])}): "
            "data.caption_column names the one with captions"
        )
    lies_beside = bool(captions_from) and captions_from.endswith("beside the images")
    return Told(captions, captions_from, lies_beside, labels, labels_from, frozenset(read), tuple(notes))


def caption_images(
    root: Path, paths: Sequence[Path], kept: Sequence[Path], captions: Mapping[str, str]
) -> list[str]:
    """The caption of each image `kept` of all in `paths`; one without is told nothing, and counted in a warning.

    Raises `ConfigError` where no caption names an image.
    """
    names = [same_name(path.relative_to(root).as_posix()) for path in kept]
    alone = sorted(set(captions) - {same_name(path.relative_to(root).as_posix()) for path in paths})
    if len(alone) == len(captions):
        raise ConfigError(
            f"the captions of {root} must name its images, but none does: "
            f"the first names {alone[0]}, the first image is {names[0]}"
        )
    silent = [name for name in names if name not in captions]
    parts = []
    if silent:
        parts.append(f"{len(silent)} of {len(names)} images have no caption, the first {silent[0]}")
    if alone:
        parts.append(f"{len(alone)} of {len(captions)} captions have no image, the first {alone[0]}")
    if parts:
        warnings.warn(f"captions of {root}: {'; '.join(parts)}", stacklevel=4)
    return [captions.get(name, "") for name in names]


def _tables(root: Path, files: Sequence[Path], spec: DataSpec) -> list[Table]:
    found = [path for path in files if path.name.lower() in METADATA]
    whole = [path for path in files if path == root / WHOLE]
    folders: dict[Path, Path] = {}
    for path in [*found, *whole]:
        other = folders.setdefault(path.parent, path)
        if other is not path:
            raise ConfigError(f"{path.parent} must hold {other.name} or {path.name}, but has both")
    tables = [read_metadata(path, path.parent.relative_to(root).as_posix(), spec) for path in found]
    if spec.conditioning in (None, "text") and spec.caption_column is None:
        tables += [read_whole(path) for path in whole]
    names: dict[str, Path] = {}
    for table in tables:
        for name in {*table.captions, *table.labels}:
            if (other := names.setdefault(name, table.path)) is not table.path:
                raise ConfigError(
                    f"{shown(root, other)} and {shown(root, table.path)} must name each image once, "
                    f"but both name {name}"
                )
    return tables


def _source(root: Path, tables: Sequence[Table], column: str) -> str:
    """Where labels or captions come from, in words."""
    if not tables:
        return ""
    more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
    key = getattr(tables[0], column)
    return f"{shown(root, tables[0].path)}{more}" + (f", key {key}" if key != WHOLE else "")


def _beside(
    root: Path, files: Sequence[Path], images: Sequence[Path], wish: str
) -> tuple[list[Sidecars], set[Path], str]:
    """Captions of files beside the images, by suffix, what was read for them, and a note on what was not."""
    suffixes = (wish.lower(),) if wish.startswith(".") else SIDECARS
    found = find_sidecars(files, images, suffixes)
    if wish.startswith(".") and not found:
        raise ConfigError(
            f"data.caption_column {wish} needs {wish} files beside the images, but {root} has none"
        )
    if not found:
        found = find_sidecars(files, images, (".json",))
    read = {
        suffix: read_sidecars(root, suffix, paths) for suffix, paths in sorted(found.items(), reverse=True)
    }
    told = [sidecars for sidecars in read.values() if sidecars is not None]
    if len(told) > 1:
        first, second = told
        both = first.captions.keys() & second.captions.keys()
        name = next((name for name in sorted(both) if first.captions[name] != second.captions[name]), None)
        if name is not None:
            raise ConfigError(
                f"{root} must have one caption for each image, but {first.suffix} and {second.suffix} files differ, "
                f"as beside {name}: data.caption_column {first.suffix} or {second.suffix} chooses"
            )
    used = {path for suffix, paths in found.items() if read[suffix] for path in paths.values()}
    numbers = [suffix for suffix, sidecars in read.items() if sidecars is None and suffix != ".json"]
    note = (
        f"{numbers[0]} files beside the images hold boxes of objects and are not read as captions"
        if numbers
        else ""
    )
    return told, used, note
