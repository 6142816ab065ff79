"""A folder of image files as square images: loaded whole, or listed, to be read one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.config.shown import printable
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.folder_condition import FolderCondition, condition_of
from curriculum_ray.data.folder_files import (
    FolderFiles,
    Readable,
    find_images,
    read_headers,
    read_squares,
    side_of,
)
from curriculum_ray.data.images import Header, ImageTally, Square, to_pixels
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import DataSummary
from curriculum_ray.data.unread_files import unread_files

__all__ = ["FolderList", "list_folder", "load_folder"]


def load_folder(spec: DataSpec) -> Dataset:
    """Read the images under `spec.name`, sorted by path; centre-crop and resize them to squares.

    Side: `spec.image_size`, or 32. Channels: `spec.channels`, or 1 if all files are grey, else 3.
    Conditioning: `spec.conditioning`, or class folders, else captions (see `condition_of`). ConfigError where
    there are no images, or unreadable ones, unless `spec.corrupt` is skip: then they are left out with one warning.
    """
    files = find_images(spec)
    readable = read_squares(files, spec)
    squares = readable.found
    channels = _channels(spec, [square.image.mode == "L" for square in squares])
    items = torch.stack([to_pixels(square.image, channels) for square in squares])
    about = condition_of(files, readable.paths, readable.classes, spec)
    tally = ImageTally()
    for path, square in zip(readable.paths, squares, strict=True):
        tally.add(path.relative_to(files.root).as_posix(), square)
    summary = _summary(spec, files, readable, about, tuple(items.shape[1:]))
    return Dataset(
        name=summary.name,
        stored=items if about.order is None else items[about.order],
        condition=about.condition,
        class_names=about.class_names,
        vocabulary=about.vocabulary,
        captions=about.captions,
        summary=replace(summary, image_stats=tally.stats),
    )


@dataclass(frozen=True, eq=False)
class FolderList:
    """The images of a folder, none of which is read yet."""

    info: DataInfo
    """Its fingerprint is that of the images' paths, sizes and first bytes."""
    condition: Tensor | None
    """Of each item; see `Dataset`."""
    paths: Sequence[Path]
    """Of each item."""


def list_folder(spec: DataSpec) -> FolderList:
    """What `load_folder` loads, by the first bytes of the images."""
    files = find_images(spec)
    readable = read_headers(files, spec)
    channels = _channels(spec, [header.grey for header in readable.found])
    side = side_of(spec)
    about = condition_of(files, readable.paths, readable.classes, spec)
    order = list(range(about.count)) if about.order is None else about.order.tolist()
    shape = (channels, side, side)
    found = [
        (path.relative_to(files.root).as_posix(), header.bytes, header.digest)
        for path, header in zip(readable.paths, readable.found, strict=True)
    ]
    summary = _summary(spec, files, readable, about, shape)
    info = DataInfo(
        name=summary.name,
        shape=shape,
        conditioning=about.conditioning,
        count=about.count,
        fingerprint=hashlib.sha256(json.dumps([shape, found, order]).encode()).hexdigest(),
        class_names=about.class_names,
        vocabulary=about.vocabulary,
        summary=summary,
    )
    return FolderList(info, about.condition, tuple(readable.paths[number] for number in order))


def _channels(spec: DataSpec, grey: Sequence[bool]) -> int:
    """How many channels images have, by which of the files are grey."""
    return spec.channels or (1 if all(grey) else 3)


def _summary(
    spec: DataSpec,
    files: FolderFiles,
    readable: Readable[Square] | Readable[Header],
    about: FolderCondition,
    shape: tuple[int, ...],
) -> DataSummary:
    """The summary, without what is known of images that were read."""
    walk, layout, annotations = files.walk, files.layout, files.annotations
    decided = about.condition is not None or spec.conditioning == "none"
    left = [*walk.left_out, *unread_files(files.root, walk, annotations.files, decided), *readable.left_out]
    return DataSummary(
        name=printable(files.root.resolve().name),
        format="folder",
        path=str(files.root),
        files=len(walk.files) + sum(each.count for each in walk.left_out),
        used=len(readable.paths) + len(annotations.files),
        left_out=tuple(left),
        splits=layout.splits,
        split=layout.split,
        conditioning_from=about.source,
        shape=shape,
        notes=(*layout.notes, *annotations.notes, *about.notes),
    ).of(about)
