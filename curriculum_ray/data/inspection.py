"""Inspect images of shards, which a scan does not read: sizes, modes, duplicates, and examples to show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, is_image, to_uint8
from curriculum_ray.data.headers import Unit
from curriculum_ray.data.images import ImageTally, Square, to_pixels, to_square
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.shard_rows import make_condition, open_unit, row_locations
from curriculum_ray.data.shards import scan
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import DataSummary, LeftOut

__all__ = ["Examples", "condition_texts", "describe"]

INSPECTED = 256
"""Images that are inspected before a stream starts."""
_UNITS = 8
"""Units that they are taken from."""


@dataclass(frozen=True)
class Examples:
    """Some items as they are trained on, each with its label or caption."""

    items: Tensor
    """Images (N, C, H, W) as uint8, or items of any shape as float32."""
    texts: tuple[str, ...]
    """Class names or captions, "" for an item without one; empty where the data have no condition."""


def describe(
    spec: DataSpec, data: Dataset | DataInfo, show: int = 0, every: bool = False
) -> tuple[DataSummary, Examples]:
    """Summarise `data`, loaded from `spec`, and return up to `show` of its items, evenly spaced.

    Of images in shards, 256 are inspected, the first ones of eight units; all of them if `every`.
    """
    summary = data.summary
    assert summary is not None
    if isinstance(data, Dataset):
        rows = _spread(len(data), show)
        items, condition = data.stored[rows], None if data.condition is None else data.condition[rows]
        return summary, Examples(
            to_uint8(items) if is_image(data.shape) else items, condition_texts(data, condition)
        )
    if spec.format == "latents":
        return summary, Examples(torch.zeros(0, *data.shape), ())
    units = scan(spec).units
    chosen = units if every else [units[index] for index in _spread(len(units), _UNITS)]
    each = None if every else -(-INSPECTED // len(chosen))
    parts = [(unit, unit.rows if each is None else min(each, unit.rows)) for unit in chosen if unit.rows]
    wanted = {*_spread(sum(rows for _, rows in parts), show)}
    tally, shown, broken = ImageTally(), list[_Row](), list[str]()
    due = 0
    for place, row in enumerate(itertools.chain.from_iterable(_read(spec, data, *part) for part in parts)):
        due += place in wanted
        if isinstance(row, str):
            broken.append(row)
            continue
        tally.add(row.name, row.square)
        # The next readable image stands for an unreadable one.
        if due:
            shown.append(row)
            due -= 1
    pixels = [to_pixels(row.square.image, data.shape[0]) for row in shown]
    items = torch.stack(pixels) if pixels else torch.zeros(0, *data.shape, dtype=torch.uint8)
    condition = make_condition(data, [row.label for row in shown]) if shown else None
    if broken:
        left = LeftOut("unreadable images among those inspected", len(broken), broken[0], matters=True)
        summary = replace(summary, left_out=(*summary.left_out, left))
    texts = condition_texts(data, condition) if shown else ()
    return replace(summary, image_stats=tally.stats), Examples(items, texts)


def condition_texts(data: Dataset | DataInfo, condition: Tensor | None) -> tuple[str, ...]:
    """Convert conditions to class names, or captions as the network reads them; "" for the null condition."""
    kind = data.conditioning.kind
    if condition is None or kind == "none":
        return ()
    if kind == "class":
        return tuple("" if label < 0 else data.class_names[label] for label in condition.tolist())
    if kind == "tokens":
        return tuple(" ".join(data.vocabulary[token] for token in row if token) for row in condition.tolist())
    return tuple("" if (row == 0).all() else "(embedding)" for row in condition)


@dataclass(frozen=True)
class _Row:
    name: str
    square: Square
    label: int | str | None


def _read(spec: DataSpec, info: DataInfo, unit: Unit, rows: int) -> Iterator[_Row | str]:
    """Read the first `rows` of a unit, one at a time; an unreadable image is its name and the kind of error."""
    fetch, named = open_unit(spec, info, unit, rows), row_locations(spec, unit)
    for row in range(rows):
        try:
            content, label = fetch(row)
            found: _Row | str = _Row(named(row), to_square(content, info.shape[1]), label)
        except ConfigError:
            raise
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            found = f"{named(row)} ({type(error).__name__})"
        yield found


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` of `count` indices, evenly spaced from the first."""
    return [index * count // min(count, most) for index in range(min(count, most))]
