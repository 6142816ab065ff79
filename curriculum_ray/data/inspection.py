"""Looking at images of shards, which a scan does not read: sizes, modes, repeated contents, and some to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, is_image, to_uint8
from curriculum_ray.data.images import Square, look_over, to_pixels, to_square
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.shards import Unit, condition_of, open_unit, place, scan
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import DataSummary, LeftOut

__all__ = ["Shown", "describe", "in_words"]

LOOKED_AT = 256
"""Images that are looked at before a stream starts."""
_UNITS = 8
"""Units that these are from."""


@dataclass(frozen=True)
class Shown:
    """Items as they are trained on, and what is told of each, in words."""

    items: Tensor
    """Images (N, C, H, W) as uint8, or items of any shape as float32."""
    told: tuple[str, ...]


def describe(
    spec: DataSpec, data: Dataset | DataInfo, show: int = 0, every: bool = False
) -> tuple[DataSummary, Shown]:
    """The summary of `data`, which `spec` names, and up to `show` of its items, evenly spaced.

    Of images in shards, 256 are looked at, the first ones of eight units; all of them if `every`.
    """
    summary = data.summary
    assert summary is not None
    if isinstance(data, Dataset):
        rows = _spread(len(data), show)
        items, told = data.items[rows], None if data.condition is None else data.condition[rows]
        return summary, Shown(to_uint8(items) if is_image(data.shape) else items, in_words(data, told))
    if spec.format == "latents":
        return summary, Shown(torch.zeros(0, *data.shape), ())
    units = scan(spec).units
    chosen = units if every else [units[index] for index in _spread(len(units), _UNITS)]
    each = None if every else -(-LOOKED_AT // len(chosen))
    pieces = [_look(spec, data, unit, each) for unit in chosen if unit.rows]
    names = [name for piece in pieces for name in piece.names]
    look = look_over(names, [square for piece in pieces for square in piece.squares])
    shown = _spread(len(names), show)
    images = [square.image for piece in pieces for square in piece.squares]
    labels = [label for piece in pieces for label in piece.labels]
    size = data.shape[1]
    pixels = [to_pixels(images[index].resize((size, size)), data.shape[0]) for index in shown]
    items = torch.stack(pixels) if pixels else torch.zeros(0, *data.shape, dtype=torch.uint8)
    told = condition_of(data, [labels[index] for index in shown]) if shown else None
    if broken := [name for piece in pieces for name in piece.broken]:
        left = LeftOut("unreadable images among those looked at", len(broken), broken[0], matters=True)
        summary = replace(summary, left_out=(*summary.left_out, left))
    return replace(summary, look=look), Shown(items, in_words(data, told) if shown else ())


def in_words(data: Dataset | DataInfo, told: Tensor | None) -> tuple[str, ...]:
    """What is told of items in words: class names, or captions as the network reads them; "" where nothing is."""
    kind = data.conditioning.kind
    if told is None or kind == "none":
        return ()
    if kind == "class":
        return tuple("" if label < 0 else data.class_names[label] for label in told.tolist())
    if kind == "tokens":
        return tuple(" ".join(data.vocabulary[token] for token in row if token) for row in told.tolist())
    return tuple("" if (row == 0).all() else "(embedding)" for row in told)


@dataclass(frozen=True)
class _Piece:
    names: Sequence[str]
    squares: Sequence[Square]
    labels: Sequence[int | str | None]
    broken: Sequence[str]


def _look(spec: DataSpec, info: DataInfo, unit: Unit, most: int | None) -> _Piece:
    """The first images of a unit; those that cannot be read are passed over, as training names them."""
    rows = unit.rows if most is None else min(most, unit.rows)
    fetch = open_unit(spec, info, unit, rows)
    names, squares, labels, broken = [], [], [], []
    for row in range(rows):
        try:
            content, label = fetch(row)
            square = to_square(content, info.shape[1])
        except ConfigError:
            raise
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            broken.append(f"{place(spec, unit, row)} ({type(error).__name__})")
            continue
        names.append(place(spec, unit, row))
        squares.append(square)
        labels.append(label)
    return _Piece(names, squares, labels, broken)


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` indices of `count`, evenly spaced from the first on."""
    return [index * count // min(count, most) for index in range(min(count, most))]
