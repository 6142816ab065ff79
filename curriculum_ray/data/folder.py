"""A folder of image files of any size as square images, told by class folders, tables or files beside the images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data.annotations import Told, caption_images, read_told
from curriculum_ray.data.dataset import Dataset, from_uint8
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE, has_embeddings, read_embeddings
from curriculum_ray.data.images import (
    DEFAULT_SIZE,
    Square,
    list_failures,
    look_over,
    to_pixels,
    to_square,
)
from curriculum_ray.data.layout import Layout, Repeats, are_parts, read_layout, read_repeats
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.suffixes import SUFFIXES
from curriculum_ray.data.summary import DataSummary, LeftOut
from curriculum_ray.data.text import same_name
from curriculum_ray.data.text_encoder import told_by_captions
from curriculum_ray.data.unread_files import leftovers, no_images
from curriculum_ray.data.vocabulary import alike
from curriculum_ray.data.walk import find_files, left_behind

__all__ = ["load_folder"]

_NAMED = 100
"""Skipped images that are named; the rest is counted."""


def load_folder(spec: DataSpec) -> Dataset:
    """Read the images under `spec.name`, in the order of their sorted paths; centre-crop and resize them to squares.

    Side: `spec.image_size`, or 32. Channels: 1 if all files are grey, else 3, unless `spec.channels` says. What is
    told: class folders, or else captions (see `read_told`), unless `spec.conditioning` says. Images that cannot be
    read raise `ConfigError`, or are left out with one warning where `spec.corrupt` is skip; none at all, images beside
    class folders, and class folders without any, raise `ConfigError`.
    """
    root = Path(spec.name)
    walk = find_files(root, SUFFIXES)
    every = [path for path in walk.files if path.suffix.lower() in SUFFIXES]
    if not every:
        raise ConfigError(no_images(root, walk))
    layout = read_layout([PurePosixPath(path.relative_to(root)) for path in every], spec.split, str(root))
    found = [every[index] for index in layout.kept]
    folders = dict(zip(found, layout.classes, strict=True))
    told = read_told(root, walk.files, every, spec)
    paths, squares, broken = _read_all(root, found, spec, folders)
    channels = spec.channels or (1 if all(square.image.mode == "L" for square in squares) else 3)
    items = from_uint8(torch.stack([to_pixels(square.image, channels) for square in squares]))
    classes = [folders[path] for path in paths]
    repeats = _repeats(spec, told, classes)
    data, notes, told_from = _told(root, spec, layout, told, every, paths, classes, items, repeats)
    names = [path.relative_to(root).as_posix() for path in paths]
    content = bool(data.conditioning) or spec.conditioning == "none"
    left = [*walk.left_out, *leftovers(root, walk, told.files, content), *broken]
    summary = DataSummary(
        name=data.name,
        format="folder",
        path=str(root),
        items=len(data),
        files=len(walk.files) + sum(each.count for each in walk.left_out),
        used=len(paths) + len(told.files),
        left_out=tuple(left),
        splits=layout.splits,
        split=layout.split,
        told_from=told_from,
        shape=data.shape,
        look=look_over(names, squares),
        notes=(*layout.notes, *told.notes, *notes),
    )
    return replace(data, summary=summary.of(data))


def _told(
    root: Path,
    spec: DataSpec,
    layout: Layout,
    told: Told,
    every: Sequence[Path],
    paths: Sequence[Path],
    classes: Sequence[str],
    items: torch.Tensor,
    repeats: Repeats | None,
) -> tuple[Dataset, list[str], str]:
    """The data set with its condition; what a person should know of the choice; and where the condition is from."""
    name = root.resolve().name
    wish = spec.conditioning
    encoded = wish in (None, "text") and has_embeddings(root)
    captioned = bool(told.captions) or encoded
    source = EMBEDDINGS_FILE if encoded else told.captions_from
    notes: list[str] = [repeats.note] if repeats else _no_repeats(spec, classes)
    if wish == "text" and not captioned:
        raise ConfigError(
            f"{root} must hold captions in metadata.jsonl, captions.json or {EMBEDDINGS_FILE}, or in .txt or .caption "
            "files beside its images, but has none"
        )
    labelled = bool(told.labels) and (spec.label_column is not None or (wish == "class" or not captioned))
    if wish in (None, "class") and not repeats and not spec.label_column:
        labels = _class_folders(root, layout, classes, captioned, labelled, wish, notes, source)
        if labels is not None:
            if told.labels:
                notes.append(
                    f"classes are the folders and not {told.labels_from}: data.label_column reads these"
                )
            if captioned and wish is None:
                notes.append(
                    f"classes are told and not the captions of {source}: data.conditioning text tells these"
                )
            return _by_class(name, items, labels), notes, "class folders"
    if labelled:
        values = [told.labels.get(same_name(path.relative_to(root).as_posix())) for path in paths]
        _check_labels(root, told, values)
        return _by_class(name, items, values), notes, told.labels_from
    if wish == "class":
        count = len({*classes} - {""})
        raise ConfigError(f"{root} must hold two or more class folders, but has {count}")
    if told.labels and captioned and wish is None:
        notes.append(f"captions are told and not {told.labels_from}: data.conditioning class tells these")
    if encoded:
        within = [path.relative_to(root).as_posix() for path in paths]
        data, from_ = Dataset(name, items, read_embeddings(root, within)), EMBEDDINGS_FILE
    elif told.captions:
        captions = dict(told.captions)
        if repeats:
            own = zip(paths, repeats.names, strict=True)
            captions = {same_name(path.relative_to(root).as_posix()): name for path, name in own} | captions
            notes += _named_by_folder(len(captions) - len(told.captions), paths)
        texts = caption_images(root, every, paths, captions)
        if spec.text_encoder is None and (line := alike(texts)):
            notes.append(line)
        condition, vocabulary = told_by_captions(texts, spec.text_encoder)
        data, from_ = Dataset(name, items, condition, vocabulary=vocabulary), told.captions_from
    else:
        data, from_ = Dataset(name, items), ""
    if repeats:
        index = torch.arange(len(items)).repeat_interleave(torch.tensor(repeats.times))
        told_again = None if data.condition is None else data.condition[index]
        data = replace(data, items=data.items[index], condition=told_again)
    return data, notes, from_


def _named_by_folder(count: int, paths: Sequence[Path]) -> list[str]:
    return [f"{count} of {len(paths)} images without a caption are told their folder's name"] if count else []


def _class_folders(
    root: Path,
    layout: Layout,
    classes: Sequence[str],
    captioned: bool,
    labelled: bool,
    wish: str | None,
    notes: list[str],
    source: str,
) -> Sequence[str] | None:
    """The class of each image by its folder, or None where folders are no classes."""
    nested = [name for name in classes if name]
    if wish is None and (captioned or labelled) and len(nested) < len(classes):
        return None
    if nested and len(nested) < len(classes):
        raise ConfigError(
            f"{root} must hold its images either all in class folders or all in itself, "
            f"but {len(nested)} of {len(classes)} are in folders"
        )
    names = {*nested}
    parts, said = are_parts(classes) if len(names) > 1 else (False, False)
    if parts and wish is None:
        shown = list_failures(sorted(names))
        if captioned or said:
            notes.append(
                f"folders {shown} are read as parts of one set: data.conditioning class makes classes of them"
            )
            return None
        notes.append(
            f"folders {shown} are read as classes: data.conditioning none reads them as parts of one set"
        )
    if names and (len(names) > 1 or not captioned) and layout.base is not None:
        _check_classes(root / layout.base, {*layout.classes})
    return classes if len(names) > 1 else None


def _by_class(name: str, items: torch.Tensor, labels: Sequence[int | str | None]) -> Dataset:
    """A data set told by labels, of which None is no label: numbers in their order, or else names in theirs."""
    known = sorted(
        {label for label in labels if label is not None}, key=lambda label: (isinstance(label, str), label)
    )
    index = {label: number for number, label in enumerate(known)}
    condition = torch.tensor([-1 if label is None else index[label] for label in labels])
    return Dataset(name, items, condition, tuple(map(str, known)))


def _check_labels(root: Path, told: Told, values: Sequence[int | str | None]) -> None:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        raise ConfigError(f"the labels of {told.labels_from} must name images of {root}, but none does")
    if len(kinds) > 1:
        raise ConfigError(f"{told.labels_from} must hold integers or strings alone as labels, but has both")


def _repeats(spec: DataSpec, told: Told, classes: Sequence[str]) -> Repeats | None:
    """How often each image comes, where folders are read as kohya-style trainers read them."""
    if spec.repeats is False or spec.conditioning == "class" or not (told.beside or spec.repeats):
        return None
    found = read_repeats(classes)
    if found is None and spec.repeats:
        raise ConfigError(
            f"data.repeats needs all images of {spec.name} in folders N_name, but it has others"
        )
    return found


def _no_repeats(spec: DataSpec, classes: Sequence[str]) -> list[str]:
    """A line where folders are named as kohya-style trainers name them, but are not read so."""
    if spec.repeats is not None or spec.conditioning is not None or read_repeats(classes) is None:
        return []
    names = list_failures(sorted({*classes}))
    return [
        f"folders {names} ask for no repeats, as no captions lie in them: data.repeats true repeats their images"
    ]


def _check_classes(base: Path, filled: set[str]) -> None:
    """Refuse sub folders of `base` without an image, readable or not, where the others are classes."""
    empty = sorted(
        entry.name
        for entry in base.iterdir()
        if entry.is_dir()
        and left_behind(entry.name, folder=True) is None
        and entry.name not in filled
        # A link back up is no class.
        and not base.resolve().is_relative_to(entry.resolve())
    )
    if empty:
        raise ConfigError(
            f"{base} must hold images in each of its class folders, but "
            f"{list_failures(empty)} {'have' if len(empty) > 1 else 'has'} none "
            "(data.conditioning none makes no classes)"
        )


def _read_all(
    root: Path, paths: Sequence[Path], spec: DataSpec, folders: dict[Path, str]
) -> tuple[list[Path], list[Square], list[LeftOut]]:
    """Each readable image as a square of mode L or RGB, and its path; the others are named and counted."""
    size = spec.image_size or DEFAULT_SIZE

    def read(path: Path) -> Square | Exception:
        try:
            # Opening a pipe would wait for its writer.
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
