"""A folder of image files as square images, annotated by class folders, tables or sidecar files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data.annotations import Annotations, caption_images, read_annotations
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE, has_embeddings, read_embeddings
from curriculum_ray.data.images import (
    DEFAULT_SIZE,
    Square,
    image_stats,
    list_failures,
    to_pixels,
    to_square,
)
from curriculum_ray.data.layout import Layout, Repeats, are_parts, read_layout, read_repeats
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.suffixes import SUFFIXES
from curriculum_ray.data.summary import DataSummary, LeftOut
from curriculum_ray.data.text import canonical_path
from curriculum_ray.data.text_encoder import condition_from_captions
from curriculum_ray.data.unread_files import no_images_error, unread_files
from curriculum_ray.data.vocabulary import merged_captions_note
from curriculum_ray.data.walk import find_files, junk_kind

__all__ = ["load_folder"]

_NAMED = 100
"""Skipped images that are named; the others are counted."""


def load_folder(spec: DataSpec) -> Dataset:
    """Read the images under `spec.name`, sorted by path; centre-crop and resize them to squares.

    Side: `spec.image_size`, or 32. Channels: `spec.channels`, or 1 if all files are grey, else 3.
    Conditioning: `spec.conditioning`, or class folders, else captions (see `read_annotations`). Unreadable
    images raise `ConfigError`, or are left out with one warning if `spec.corrupt` is skip. A folder without
    images, images beside class folders, and empty class folders raise `ConfigError`.
    """
    root = Path(spec.name)
    walk = find_files(root, SUFFIXES)
    every = [path for path in walk.files if path.suffix.lower() in SUFFIXES]
    if not every:
        raise ConfigError(no_images_error(root, walk))
    layout = read_layout([PurePosixPath(path.relative_to(root)) for path in every], spec.split, str(root))
    found = [every[index] for index in layout.kept]
    folders = dict(zip(found, layout.classes, strict=True))
    annotations = read_annotations(root, walk.files, every, spec)
    paths, squares, broken = _read_all(root, found, spec, folders)
    channels = spec.channels or (1 if all(square.image.mode == "L" for square in squares) else 3)
    items = torch.stack([to_pixels(square.image, channels) for square in squares])
    classes = [folders[path] for path in paths]
    repeats = _repeats(spec, annotations, classes)
    data, notes, source = _annotate(root, spec, layout, annotations, every, paths, classes, items, repeats)
    names = [path.relative_to(root).as_posix() for path in paths]
    decided = bool(data.conditioning) or spec.conditioning == "none"
    left = [*walk.left_out, *unread_files(root, walk, annotations.files, decided), *broken]
    summary = DataSummary(
        name=data.name,
        format="folder",
        path=str(root),
        items=len(data),
        files=len(walk.files) + sum(each.count for each in walk.left_out),
        used=len(paths) + len(annotations.files),
        left_out=tuple(left),
        splits=layout.splits,
        split=layout.split,
        conditioning_from=source,
        shape=data.shape,
        image_stats=image_stats(names, squares),
        notes=(*layout.notes, *annotations.notes, *notes),
    )
    return replace(data, summary=summary.of(data))


def _annotate(
    root: Path,
    spec: DataSpec,
    layout: Layout,
    annotations: Annotations,
    every: Sequence[Path],
    paths: Sequence[Path],
    classes: Sequence[str],
    items: torch.Tensor,
    repeats: Repeats | None,
) -> tuple[Dataset, list[str], str]:
    """Return the data set with its condition, notes on how that was chosen, and its source."""
    name = root.resolve().name
    requested = spec.conditioning
    encoded = requested in (None, "text") and has_embeddings(root)
    captioned = bool(annotations.captions) or encoded
    source = EMBEDDINGS_FILE if encoded else annotations.captions_from
    notes: list[str] = [repeats.note] if repeats else _no_repeats(spec, classes)
    if requested == "text" and not captioned:
        raise ConfigError(
            f"{root} must hold captions in metadata.jsonl, captions.json or {EMBEDDINGS_FILE}, or in .txt or .caption "
            "files beside its images, but has none"
        )
    labelled = bool(annotations.labels) and (
        spec.label_column is not None or requested == "class" or not captioned
    )
    if requested in (None, "class") and not repeats and not spec.label_column:
        labels = _class_folders(root, layout, classes, captioned, labelled, requested, notes, source)
        if labels is not None:
            if annotations.labels:
                notes.append(
                    f"classes are the folders, not the labels of {annotations.labels_from}: "
                    "data.label_column chooses these"
                )
            if captioned and requested is None:
                notes.append(
                    f"trained on classes, not on the captions of {source}: "
                    "data.conditioning text chooses these"
                )
            return _labelled(name, items, labels), notes, "class folders"
    if labelled:
        values = [annotations.labels.get(canonical_path(path.relative_to(root).as_posix())) for path in paths]
        _check_labels(root, annotations, values)
        return _labelled(name, items, values), notes, annotations.labels_from
    if requested == "class":
        count = len({*classes} - {""})
        raise ConfigError(f"{root} must hold two or more class folders, but has {count}")
    if annotations.labels and captioned and requested is None:
        notes.append(
            f"trained on captions, not on the labels of {annotations.labels_from}: "
            "data.conditioning class chooses these"
        )
    if encoded:
        within = [path.relative_to(root).as_posix() for path in paths]
        data = Dataset(name, items, read_embeddings(root, within))
    elif annotations.captions:
        captions = dict(annotations.captions)
        if repeats:
            own = zip(paths, repeats.names, strict=True)
            captions = {
                canonical_path(path.relative_to(root).as_posix()): name for path, name in own
            } | captions
            notes += _named_by_folder(len(captions) - len(annotations.captions), paths)
        texts = caption_images(root, every, paths, captions)
        if spec.text_encoder is None and (line := merged_captions_note(texts)):
            notes.append(line)
        condition, vocabulary = condition_from_captions(texts, spec.text_encoder)
        data = Dataset(name, items, condition, vocabulary=vocabulary)
    else:
        data = Dataset(name, items)
    if repeats:
        index = torch.arange(len(items)).repeat_interleave(torch.tensor(repeats.times))
        repeated = None if data.condition is None else data.condition[index]
        data = replace(data, stored=data.stored[index], condition=repeated)
    return data, notes, source


def _named_by_folder(count: int, paths: Sequence[Path]) -> list[str]:
    return [f"{count} of {len(paths)} images have no caption and take their folder's name"] if count else []


def _class_folders(
    root: Path,
    layout: Layout,
    classes: Sequence[str],
    captioned: bool,
    labelled: bool,
    requested: str | None,
    notes: list[str],
    source: str,
) -> Sequence[str] | None:
    """Return the class of each image by its folder, or None if folders are not classes."""
    nested = [name for name in classes if name]
    if requested is None and (captioned or labelled) and len(nested) < len(classes):
        return None
    if nested and len(nested) < len(classes):
        raise ConfigError(
            f"{root} must hold its images either all in class folders or all directly, "
            f"but {len(nested)} of {len(classes)} are in folders"
        )
    names = {*nested}
    parts, named = are_parts(classes) if len(names) > 1 else (False, False)
    if parts and requested is None:
        shown = list_failures(sorted(names))
        if captioned or named:
            notes.append(
                f"folders {shown} are read as parts of one set: data.conditioning class reads them as classes"
            )
            return None
        notes.append(
            f"folders {shown} are read as classes: data.conditioning none reads them as parts of one set"
        )
    if names and (len(names) > 1 or not captioned) and layout.base is not None:
        _check_classes(root / layout.base, {*layout.classes})
    return classes if len(names) > 1 else None


def _labelled(name: str, items: torch.Tensor, labels: Sequence[int | str | None]) -> Dataset:
    """Return a data set with classes from labels, None for no label; numbers sort before names."""
    known = sorted(
        {label for label in labels if label is not None}, key=lambda label: (isinstance(label, str), label)
    )
    index = {label: number for number, label in enumerate(known)}
    condition = torch.tensor([-1 if label is None else index[label] for label in labels])
    return Dataset(name, items, condition, tuple(map(str, known)))


def _check_labels(root: Path, annotations: Annotations, values: Sequence[int | str | None]) -> None:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        raise ConfigError(
            f"the labels of {annotations.labels_from} must be for images of {root}, but none is"
        )
    if len(kinds) > 1:
        raise ConfigError(
            f"{annotations.labels_from} must hold either integers or strings as labels, but has both"
        )


def _repeats(spec: DataSpec, annotations: Annotations, classes: Sequence[str]) -> Repeats | None:
    """Return how often each image is repeated, if folders are read as in kohya-style trainers."""
    if spec.repeats is False or spec.conditioning == "class" or not (annotations.sidecars or spec.repeats):
        return None
    found = read_repeats(classes)
    if found is None and spec.repeats:
        raise ConfigError(
            f"data.repeats needs all images of {spec.name} in folders named N_name, but some are elsewhere"
        )
    return found


def _no_repeats(spec: DataSpec, classes: Sequence[str]) -> list[str]:
    """Return a note if folders have kohya-style names, but are not read as repeats."""
    if spec.repeats is not None or spec.conditioning is not None or read_repeats(classes) is None:
        return []
    names = list_failures(sorted({*classes}))
    return [
        f"folders {names} are not read as repeats, because they hold no captions: data.repeats true does so"
    ]


def _check_classes(base: Path, filled: set[str]) -> None:
    """Refuse subfolders of `base` without any image file, if the others are classes."""
    empty = sorted(
        entry.name
        for entry in base.iterdir()
        if entry.is_dir()
        and junk_kind(entry.name, folder=True) is None
        and entry.name not in filled
        # A link to a parent is no class.
        and not base.resolve().is_relative_to(entry.resolve())
    )
    if empty:
        raise ConfigError(
            f"{base} must hold images in each of its class folders, but "
            f"{list_failures(empty)} {'have' if len(empty) > 1 else 'has'} none "
            "(data.conditioning none reads no classes)"
        )


def _read_all(
    root: Path, paths: Sequence[Path], spec: DataSpec, folders: dict[Path, str]
) -> tuple[list[Path], list[Square], list[LeftOut]]:
    """Read images as squares of mode L or RGB; return paths, squares, and what could not be read."""
    size = spec.image_size or DEFAULT_SIZE

    def read(path: Path) -> Square | Exception:
        try:
            # Opening a pipe would block until it has a writer.
            if path.exists() and not path.is_file():
                raise ValueError("not a regular file")
            return to_square(path.read_bytes(), size)
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        squares = list(pool.map(read, paths))
    kept, readable, failed = [], [], []
    for path, square in zip(paths, squares, strict=True):
        if isinstance(square, Exception):
            failed.append(f"{path.relative_to(root)} ({type(square).__name__})")
        else:
            kept.append(path)
            readable.append(square)
    if not failed:
        return kept, readable, []
    what = f"{len(failed)} of {len(paths)} cannot be read"
    if spec.corrupt == "refuse" or not readable:
        raise ConfigError(
            f"{root} must hold readable images of 8 bits per channel, but {what}: {list_failures(failed)}"
        )
    gone = sorted({folders[path] for path in paths} - {folders[path] for path in kept})
    if gone:
        what = f"{what}, which leaves none in {list_failures(gone)}"
    names = "\n".join(failed[:_NAMED])
    more = f"\nand {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    warnings.warn(f"images of {root} were skipped: {what}:\n{names}{more}", stacklevel=4)
    return kept, readable, [LeftOut("unreadable images", len(failed), failed[0])]
