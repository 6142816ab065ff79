"""Reads single rows of shards: images, latents, and what conditions them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.headers import AnnotationKind, Fetch, Names, Unit
from curriculum_ray.data.images import read_square, to_pixels
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latents import read_shard
from curriculum_ray.data.parquet import parquet_fetch, parquet_locations
from curriculum_ray.data.shard_copies import copy_here
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.tar import tar_fetch, tar_location
from curriculum_ray.data.vocabulary import tokenise

__all__ = [
    "make_condition",
    "open_unit",
    "read_image",
    "read_rows",
    "row_locations",
    "unreadable",
]


def open_unit(spec: DataSpec, info: DataInfo, unit: Unit, first: int | None = None) -> Fetch:
    """Return a function that fetches rows of a unit of images; it keeps a whole row group in memory.

    first: number of rows from the unit's start that will be fetched, if not all.
    """
    unit = _here(spec, unit)
    kinds: dict[str, AnnotationKind] = {"class": "class", "tokens": "text"}
    wanted = kinds.get(info.conditioning.kind, "none")
    names = replace(Names.of(spec), others=info.other_labels)
    if spec.format == "parquet":
        return parquet_fetch(unit, wanted, names, first)
    return tar_fetch(unit, wanted, names)


def _here(spec: DataSpec, unit: Unit) -> Unit:
    """The unit with the path that its file has on this machine."""
    return replace(unit, path=copy_here(spec.name, unit.path))


def unreadable(name: str, image: str) -> ConfigError:
    """The refusal of a data set because of an image, which is named with the kind of error."""
    return ConfigError(f"{name} must hold readable images, but cannot read {image}")


def read_image(
    spec: DataSpec, info: DataInfo, unit: Unit, row: int, fetch: Fetch
) -> tuple[Tensor, int | str | None] | str:
    """Read the image of a row, uint8 (C, H, W), and its label or caption; of a corrupt one, its name and kind of error.

    A corrupt image raises ConfigError unless `spec.corrupt` is skip.
    """
    content, value = fetch(row)
    try:
        return to_pixels(read_square(io.BytesIO(content), info.shape[1]), info.shape[0]), value
    # Pillow's decoders raise almost anything on a broken file.
    except Exception as error:
        image = f"{row_locations(spec, unit)(row)} ({type(error).__name__})"
    if spec.corrupt == "refuse":
        raise unreadable(spec.name, image)
    return image


def read_rows(
    spec: DataSpec,
    info: DataInfo,
    unit: Unit,
    rows: Sequence[int],
    fetch: Fetch | None = None,
    without: Sequence[int] = (),
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read `rows` of `unit` in order: uint8 images or float latents, condition, names of corrupt images.

    A corrupt image raises `ConfigError`; if `spec.corrupt` is skip, the next readable image of the unit
    replaces it, wrapping around at the end, so that all other images keep their positions. fetch: the unit,
    if it is already open. without: rows that replace no other.
    """
    if spec.format == "latents":
        path = Path(_here(spec, unit).path)
        latents, stored = read_shard(path.parent, path.name, unit.rows, info.shape, info.conditioning)
        index = torch.as_tensor(rows, dtype=torch.long)
        return latents[index], None if stored is None else stored[index], []
    fetch = fetch or open_unit(spec, info, unit)
    images, values, failed = [], [], []
    never = set(without)
    for row in rows:
        for step in range(unit.rows):
            other = (row + step) % unit.rows
            if step and other in never:
                continue
            found = read_image(spec, info, unit, other, fetch)
            if isinstance(found, str):
                failed.append(found)
                continue
            images.append(found[0])
            values.append(found[1])
            break
        else:
            raise ConfigError(f"{unit.path} must hold readable images, but none of {unit.rows} is")
    return torch.stack(images), make_condition(info, values), list(dict.fromkeys(failed))


def make_condition(info: DataInfo, values: list[int | str | None]) -> Tensor | None:
    """Convert labels or captions, None where missing, to a condition (N, ...); None without conditioning."""
    if info.conditioning.kind == "class":
        index = {str(label): number for number, label in enumerate(info.labels or info.class_names)}
        return torch.tensor([-1 if label is None else index.get(str(label), -1) for label in values])
    if info.conditioning.kind == "tokens":
        return tokenise([str(text or "") for text in values], info.vocabulary, info.conditioning.length)
    return None


def row_locations(spec: DataSpec, unit: Unit) -> Callable[[int], str]:
    """Return a function that names a row of `unit` for the user, by its file and its row or sample."""
    here = _here(spec, unit)
    if spec.format == "parquet":
        return parquet_locations(here)
    return lambda row: tar_location(here, row, Names.of(spec))
