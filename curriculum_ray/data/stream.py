"""A stream with some items kept in memory: those that are held out, and those that samples are scored against."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.chosen_rows import ChosenRows, choose_rows
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.load import data_info
from curriculum_ray.data.shard_rows import make_condition, open_unit, read_image, read_rows
from curriculum_ray.data.shards import Scan, scan
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.vocabulary import build_vocabulary, renumber, tokenise

__all__ = ["REFERENCE_BYTES", "load_stream", "with_note"]

_LOG = logging.getLogger(__name__)

REFERENCE_BYTES = 1 << 30
"""Memory that the reference of a stream may take."""
_SEED = 0x5A3D
"""Of the choice of the reference, and of the order of the items: the same in every run."""
_READERS = 2
"""Units that are read at a time."""


def load_stream(spec: DataSpec, reference: int = 0) -> Scan:
    """Scan the stream of `spec`, and read its held-out items and `reference` of those that are trained on.

    Both are a function of the shards alone, images as uint8, and at most 1,024 and `REFERENCE_BYTES`. A reference of 0
    is None. A corrupt image raises ConfigError; if `spec.corrupt` is skip, it is left out.
    """
    info = data_info(spec)  # which warns
    found = scan(spec)
    heldout = _read(spec, info, found.held_out) if len(found.held_out) else None
    loaded = replace(info, heldout=heldout)
    if reference:
        most = max(1, REFERENCE_BYTES // (prod(info.shape) * (4 if spec.format == "latents" else 1)))
        rows = choose_rows(found.units, min(reference, most), _SEED, found.reserved)
        loaded = replace(loaded, reference=_read(spec, info, rows))
    return replace(found, info=loaded)


def with_note(info: DataInfo, asked: int) -> DataInfo:
    """`info` with a note on its reference, of which `asked` items were asked for."""
    assert info.reference is not None
    assert info.summary is not None
    items = len(info.reference)
    some = f"{items:,} of the {info.count:,}" if items < info.count else f"the {items:,}"
    note = f"samples are scored against {some} items that are trained on, the same in every run"
    if items < min(asked, info.count):
        note += f": more than {REFERENCE_BYTES >> 30} GiB of them are not kept"
    elif items < info.count:
        note += ": evaluation.num_samples says how many"
    return replace(info, summary=replace(info.summary, notes=(*info.summary.notes, note)))


def _read(spec: DataSpec, info: DataInfo, rows: ChosenRows) -> Dataset:
    """Read `rows` into memory, in a fixed random order."""
    _LOG.info("reading %d items of %s from %d units", len(rows), spec.name, len(rows.numbers))
    place = torch.randperm(len(rows), generator=torch.Generator().manual_seed(_SEED))
    latents = spec.format == "latents"
    stored = torch.empty(len(rows), *info.shape, dtype=torch.float32 if latents else torch.uint8)
    values: list[int | str | None] = [None] * len(rows)
    sound = torch.ones(len(rows), dtype=torch.bool)

    def read(index: int, start: int) -> Tensor | None:
        unit, numbers = rows.units[index], rows.of(index)
        mine = place[start : start + len(numbers)]
        if latents:
            stored[mine], condition, _ = read_rows(spec, info, unit, numbers)
            return condition
        fetch = open_unit(spec, info, unit)
        for at, row in zip(mine.tolist(), numbers, strict=True):
            found = read_image(spec, info, unit, row, fetch)
            if isinstance(found, str):
                sound[at] = False
            else:
                stored[at], values[at] = found
        return None

    starts = itertools.accumulate((len(rows.of(index)) for index in rows.numbers), initial=0)
    with ThreadPoolExecutor(_READERS) as pool:
        found = [each for each in pool.map(read, rows.numbers, starts) if each is not None]
    condition = torch.cat(found)[place.argsort()] if found else _condition(info, values)
    if not sound.all():
        stored, condition = stored[sound], None if condition is None else condition[sound]
    if not len(stored):
        raise ConfigError(f"{spec.name} must hold readable images, but none of {len(rows)} is")
    return Dataset(info.name, stored, condition, info.class_names, info.vocabulary, latents=latents)


def _condition(info: DataInfo, values: list[int | str | None]) -> Tensor | None:
    """`make_condition`, but captions may be those of another split, and lose what `info` lacks: see `renumber`."""
    if info.conditioning.kind != "tokens":
        return make_condition(info, values)
    captions = [str(value or "") for value in values]
    own = build_vocabulary(captions)
    return renumber(tokenise(captions, own), own, info.vocabulary, info.conditioning.length)
