"""Labels and captions of an image folder, from metadata tables or from sidecar files."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.data.metadata import CAPTIONS_FILE, METADATA, Table, read_captions_file, read_metadata
from curriculum_ray.data.sidecars import SIDECARS, Sidecars, find_sidecars, read_sidecars
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text import canonical_path
from curriculum_ray.data.walk import display_path

__all__ = ["Annotations", "caption_images", "imageless_line", "read_annotations"]


@dataclass(frozen=True)
class Annotations:
    """Captions and labels, with their sources, by an image's path within the data (see `canonical_path`)."""

    captions: Mapping[str, str] = field(default_factory=dict)
    captions_from: str = ""
    sidecars: bool = False
    """Whether the captions are in a file beside each image."""
    labels: Mapping[str, int | str | None] = field(default_factory=dict)
    labels_from: str = ""
    files: frozenset[Path] = frozenset()
    """Files that were read."""
    notes: tuple[str, ...] = ()


def read_annotations(
    root: Path, files: Sequence[Path], images: Sequence[Path], spec: DataSpec
) -> Annotations:
    """Find and read the annotations that `spec` asks for: metadata at any level, captions.json, .txt and .caption.

    Captions in metadata take precedence over sidecar files, with a note that names both. Two tables in one
    folder, and .txt and .caption files that differ, raise `ConfigError`.
    """
    if spec.conditioning == "none":
        return Annotations()
    tables = _tables(root, files, spec)
    if spec.image_column is not None and all(table.path.name.lower() not in METADATA for table in tables):
        raise _without_key("image_column", spec.image_column, root)
    labels = {name: value for table in tables for name, value in table.labels.items()}
    labels_from = _source(root, [table for table in tables if table.labels], "label_column")
    if spec.label_column is not None and not labels_from:
        raise _without_key("label_column", spec.label_column, root)
    captioned = [table for table in tables if table.captions]
    captions = {name: text for table in captioned for name, text in table.captions.items()}
    captions_from = _source(root, captioned, "caption_column")
    read = {table.path for table in tables}
    notes = [table.note for table in tables if table.note]
    sidecars: list[Sidecars] = []
    requested = spec.caption_column or ""
    if spec.conditioning in (None, "text"):
        sidecars, used, note = _read_sidecars(root, files, images, requested)
        read |= used
        notes += [note] if note else []
    if requested and not requested.startswith(".") and not captions:
        raise _without_key("caption_column", requested, root)
    if sidecars and not (captions and requested and not requested.startswith(".")):
        suffixes = " and ".join(each.suffix for each in sidecars)
        if captions and not requested:
            notes.append(
                f"captions are read from {captions_from}, not from the {suffixes} files beside the images: "
                f"data.caption_column {sidecars[0].suffix} chooses these"
            )
        else:
            captions = {name: text for each in reversed(sidecars) for name, text in each.captions.items()}
            captions_from = f"{suffixes} files beside the images"
    unread = [table for table in tables if table.unread]
    if not captions and unread and spec.conditioning is None:
        notes.append(
            f"{display_path(root, unread[0].path)} has text columns that are not read "
            f"({', '.join(unread[0].unread[:5])}): data.caption_column names the one with captions"
        )
    from_sidecars = captions_from.endswith("beside the images")
    return Annotations(
        captions, captions_from, from_sidecars, labels, labels_from, frozenset(read), tuple(notes)
    )


def caption_images(
    root: Path, paths: Sequence[Path], kept: Sequence[Path], captions: Mapping[str, str]
) -> list[str]:
    """Return the caption of each image in `kept`, a subset of `paths`; "" if it has none, with a warning.

    Raises `ConfigError` if no caption names an image.
    """
    names = [canonical_path(path.relative_to(root).as_posix()) for path in kept]
    images = {canonical_path(path.relative_to(root).as_posix()) for path in paths}
    if images.isdisjoint(captions):
        raise ConfigError(
            f"the captions of {root} must name its images, but none does: "
            f"the first caption is for {min(captions)}, the first image is {names[0]}"
        )
    uncaptioned = [name for name in names if name not in captions]
    parts = []
    if uncaptioned:
        parts.append(f"{len(uncaptioned)} of {len(names)} images have no caption, the first {uncaptioned[0]}")
    if line := imageless_line("captions", captions, images):
        parts.append(line)
    if parts:
        warnings.warn(f"captions of {root}: {'; '.join(parts)}", stacklevel=4)
    return [captions.get(name, "") for name in names]


def imageless_line(what: str, named: Collection[str], images: Collection[str]) -> str:
    """Count those of `named`, the images that captions, labels (`what`) are for, that are none of `images`; or ""."""
    imageless = {*named} - {*images}
    return (
        f"{len(imageless)} of {len(named)} {what} have no image, the first {min(imageless)}"
        if imageless
        else ""
    )


def _without_key(setting: str, key: str, root: Path) -> ConfigError:
    """The refusal of a `setting` that names a key, where no table has it."""
    return ConfigError(f"data.{setting} {key} needs {', '.join(METADATA)} with that key, but {root} has none")


def _tables(root: Path, files: Sequence[Path], spec: DataSpec) -> list[Table]:
    found = [path for path in files if path.name.lower() in METADATA]
    whole = [path for path in files if path == root / CAPTIONS_FILE]
    folders: dict[Path, Path] = {}
    for path in [*found, *whole]:
        other = folders.setdefault(path.parent, path)
        if other is not path:
            raise ConfigError(f"{path.parent} must hold {other.name} or {path.name}, but has both")
    tables = [read_metadata(path, path.parent.relative_to(root).as_posix(), spec) for path in found]
    if spec.conditioning in (None, "text") and spec.caption_column is None:
        tables += [read_captions_file(path) for path in whole]
    names: dict[str, Path] = {}
    for table in tables:
        for name in {*table.captions, *table.labels}:
            if (other := names.setdefault(name, table.path)) is not table.path:
                raise ConfigError(
                    f"{display_path(root, other)} and {display_path(root, table.path)} must name each image once, "
                    f"but both name {name}"
                )
    return tables


def _source(root: Path, tables: Sequence[Table], column: str) -> str:
    """Describe where labels or captions come from."""
    if not tables:
        return ""
    more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
    key = getattr(tables[0], column)
    return f"{display_path(root, tables[0].path)}{more}" + (f", key {key}" if key != CAPTIONS_FILE else "")


def _read_sidecars(
    root: Path, files: Sequence[Path], images: Sequence[Path], requested: str
) -> tuple[list[Sidecars], set[Path], str]:
    """Return the captions in sidecar files by suffix, the files read, and a note on other content."""
    suffixes = (requested.lower(),) if requested.startswith(".") else SIDECARS
    found = find_sidecars(files, images, suffixes)
    if requested.startswith(".") and not found:
        raise ConfigError(
            f"data.caption_column {requested} needs {requested} files beside the images, but {root} has none"
        )
    if not found:
        found = find_sidecars(files, images, (".json",))
    read = {
        suffix: read_sidecars(root, suffix, paths) for suffix, paths in sorted(found.items(), reverse=True)
    }
    captioned = [sidecars for sidecars in read.values() if sidecars is not None]
    if len(captioned) > 1:
        first, second = captioned
        both = first.captions.keys() & second.captions.keys()
        name = next((name for name in sorted(both) if first.captions[name] != second.captions[name]), None)
        if name is not None:
            raise ConfigError(
                f"{root} must have one caption per image, but {first.suffix} and {second.suffix} files differ, "
                f"e.g. beside {name}: data.caption_column {first.suffix} or {second.suffix} chooses"
            )
    used = {path for suffix, paths in found.items() if read[suffix] for path in paths.values()}
    numbers = [suffix for suffix, sidecars in read.items() if sidecars is None and suffix != ".json"]
    note = (
        f"{numbers[0]} files beside the images hold bounding boxes, and are not read as captions"
        if numbers
        else ""
    )
    return captioned, used, note
