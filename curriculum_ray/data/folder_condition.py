"""What conditions the images of a folder: class folders, labels, captions or embeddings; and how often each comes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.annotations import Annotations, caption_images, imageless_line
from curriculum_ray.data.conditioning import Conditioning, conditioning_of
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE, has_embeddings, read_embeddings
from curriculum_ray.data.folder_files import FolderFiles
from curriculum_ray.data.images import list_failures
from curriculum_ray.data.layout import Layout, Repeats, are_parts, read_repeats
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text import canonical_path
from curriculum_ray.data.text_encoder import condition_from_captions
from curriculum_ray.data.vocabulary import merged_captions_note
from curriculum_ray.data.walk import junk_kind

__all__ = ["FolderCondition", "condition_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderCondition:
    """What conditions the items of a folder, in their order; `condition`, names and `captions` as in `Dataset`."""

    count: int
    """Items."""
    condition: Tensor | None = None
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    source: str = ""
    """Where labels or captions come from."""
    notes: tuple[str, ...] = ()
    """How the folder is read where there is a choice."""
    order: Tensor | None = None
    """The number of each item's image, long (N,), where images come several times an epoch."""

    def __len__(self) -> int:
        return self.count

    @property
    def conditioning(self) -> Conditioning:
        """The kind and size of `condition`."""
        return conditioning_of(self.condition, len(self.class_names), len(self.vocabulary))


def condition_of(
    files: FolderFiles, paths: Sequence[Path], classes: Sequence[str], spec: DataSpec
) -> FolderCondition:
    """What conditions the images at `paths`, those of `files` that can be read; classes: the folder of each.

    `spec.conditioning` decides, or else class folders come before captions. Images beside class folders, empty class
    folders, and annotations that fit no image raise `ConfigError`.
    """
    repeats = _repeats(spec, files.annotations, classes)
    chosen = _chosen(files, paths, classes, spec, repeats)
    if repeats is None:
        return chosen
    order = torch.arange(len(paths)).repeat_interleave(torch.tensor(repeats.times))
    condition = None if chosen.condition is None else chosen.condition[order]
    captions = tuple(chosen.captions[number] for number in order.tolist()) if chosen.captions else ()
    return replace(chosen, count=len(order), condition=condition, captions=captions, order=order)


def _chosen(
    files: FolderFiles,
    paths: Sequence[Path],
    classes: Sequence[str],
    spec: DataSpec,
    repeats: Repeats | None,
) -> FolderCondition:
    """The condition of each image, before any is repeated."""
    root, annotations, requested = files.root, files.annotations, spec.conditioning
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
        labels = _class_folders(root, files.layout, classes, captioned, labelled, requested, notes)
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
            return _labelled(labels, "class folders", notes)
    if labelled:
        values = [annotations.labels.get(canonical_path(path.relative_to(root).as_posix())) for path in paths]
        _check_labels(files, values)
        return _labelled(values, annotations.labels_from, notes)
    if requested == "class":
        count = len({*classes} - {""})
        raise ConfigError(f"{root} must hold two or more class folders, but has {count}")
    if annotations.labels and captioned and requested is None:
        notes.append(
            f"trained on captions, not on the labels of {annotations.labels_from}: "
            "data.conditioning class chooses these"
        )
    condition: Tensor | None = None
    vocabulary: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    if encoded:
        every, names = ([path.relative_to(root).as_posix() for path in some] for some in (files.every, paths))
        condition = read_embeddings(root, every, names)
    elif annotations.captions:
        captions = dict(annotations.captions)
        if repeats:
            own = zip(paths, repeats.names, strict=True)
            captions = {
                canonical_path(path.relative_to(root).as_posix()): name for path, name in own
            } | captions
            notes += _named_by_folder(len(captions) - len(annotations.captions), paths)
        texts = caption_images(root, files.every, paths, captions)
        if spec.text_encoder is None and (line := merged_captions_note(texts)):
            notes.append(line)
        condition, vocabulary = condition_from_captions(texts, spec.text_encoder)
        kept = tuple(texts) if spec.text_encoder is not None else ()
    return FolderCondition(
        count=len(paths),
        condition=condition,
        vocabulary=vocabulary,
        captions=kept,
        source=source,
        notes=tuple(notes),
    )


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


def _labelled(labels: Sequence[int | str | None], source: str, notes: Sequence[str]) -> FolderCondition:
    """Classes from labels, None for no label; numbers sort before names."""
    known = sorted(
        {label for label in labels if label is not None}, key=lambda label: (isinstance(label, str), label)
    )
    index = {label: number for number, label in enumerate(known)}
    condition = torch.tensor([-1 if label is None else index[label] for label in labels])
    names = tuple(map(str, known))
    return FolderCondition(
        count=len(labels), condition=condition, class_names=names, source=source, notes=tuple(notes)
    )


def _check_labels(files: FolderFiles, values: Sequence[int | str | None]) -> None:
    root, annotations = files.root, files.annotations
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        raise ConfigError(
            f"the labels of {annotations.labels_from} must be for images of {root}, but none is"
        )
    if len(kinds) > 1:
        raise ConfigError(
            f"{annotations.labels_from} must hold either integers or strings as labels, but has both"
        )
    images = {canonical_path(path.relative_to(root).as_posix()) for path in files.every}
    if line := imageless_line("labels", annotations.labels, images):
        warnings.warn(f"labels of {root}: {line}", stacklevel=5)


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
