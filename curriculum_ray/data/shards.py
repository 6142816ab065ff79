"""Shards of images or latents on disk: what they hold, learnt from their headers, and reading single rows."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.headers import Fetch, Header, Unit, Wish
from curriculum_ray.data.images import DEFAULT_SIZE, SUFFIXES, list_failures, read_square, to_pixels
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latents import read_latents_info, read_shard, told_by_latents
from curriculum_ray.data.parquet import parquet_fetch, parquet_header, parquet_place
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.tar import tar_fetch, tar_header, tar_place
from curriculum_ray.data.vocabulary import build_vocabulary, tokenise, words

__all__ = ["Scan", "Unit", "open_unit", "read_rows", "scan"]


@dataclass(frozen=True)
class Scan:
    """What a pass over the headers found."""

    info: DataInfo
    units: tuple[Unit, ...]


def scan(spec: DataSpec) -> Scan:
    """Find the shards of `spec` and what they hold, without reading an image; once a process and file state."""
    paths = _files(spec)
    stamp = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return _scan(spec.model_dump_json(), stamp)


def _files(spec: DataSpec) -> list[Path]:
    root = Path(spec.name)
    suffix = {"parquet": ".parquet", "webdataset": ".tar", "latents": ".safetensors"}[spec.format or ""]
    paths = [root] if root.is_file() else sorted(root.rglob(f"*{suffix}"))
    if not paths:
        raise ConfigError(f"data.name must be a {suffix} file or a folder of some, but {spec.name!r} is not")
    return paths


@lru_cache(maxsize=4)
def _scan(spec_json: str, stamp: tuple[tuple[str, int, int], ...]) -> Scan:
    spec = DataSpec.model_validate_json(spec_json)
    text = json.dumps([[Path(path).name, size] for path, size, _ in stamp])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    name = Path(spec.name).resolve().stem
    if spec.format == "latents":
        latents = read_latents_info(Path(spec.name))
        units = tuple(Unit(str(Path(spec.name) / file), 0, rows) for file, rows in latents.shards)
        told, classes, vocabulary = told_by_latents(latents, spec)
        info = DataInfo(name, latents.shape, told, latents.count, fingerprint, classes, vocabulary)
        return Scan(info, units)
    read = parquet_header if spec.format == "parquet" else tar_header
    headers = _headers([path for path, _, _ in stamp], spec.conditioning, read)
    _check_bare(spec, headers)
    side = spec.image_size or DEFAULT_SIZE
    told, classes, vocabulary = _told(spec, headers)
    count = sum(header.rows for header in headers)
    if not count:
        raise ConfigError(f"{spec.name} must hold images, but has none")
    shape = (spec.channels or 3, side, side)
    units = tuple(unit for header in headers for unit in header.units)
    return Scan(DataInfo(name, shape, told, count, fingerprint, classes, vocabulary), units)


def _headers(paths: list[str], wish: Wish | None, read: Callable[[str, Wish], Header]) -> list[Header]:
    """Of each shard, with what `wish` asks for; without one the labels, or where there are none the captions."""
    wishes: tuple[Wish, ...] = (wish,) if wish else ("class", "text", "none")
    headers = []
    for path in paths:
        for each in wishes:
            header = read(path, each)
            if header.told:
                break
        headers.append(header)
    first = min((header.wish for header in headers), key=wishes.index)
    return [header if header.wish == first else read(header.path, first) for header in headers]


def _check_bare(spec: DataSpec, headers: list[Header]) -> None:
    names = [f"{Path(header.path).name} sample {name}" for header in headers for name in header.bare]
    if not names:
        return
    what = f"{len(names)} of {len(names) + sum(header.rows for header in headers)} have none: "
    if spec.corrupt == "refuse":
        suffixes = ", ".join(sorted(SUFFIXES))
        raise ConfigError(
            f"{spec.name} must hold an image ({suffixes}) in each sample, but {what}{list_failures(names)}"
        )
    warnings.warn(f"samples of {spec.name} were skipped: {what}{list_failures(names)}", stacklevel=4)


def _told(spec: DataSpec, headers: list[Header]) -> tuple[Conditioning, tuple[str, ...], tuple[str, ...]]:
    """The conditioning, class names and vocabulary that the headers' labels or captions make."""
    wish = headers[0].wish
    if wish == "none":
        return NO_CONDITIONING, (), ()
    name = "labels" if wish == "class" else "captions"
    told = {value: header.path for header in headers for value in header.told}
    if not told:
        raise ConfigError(f"data.conditioning {wish} needs {name}, but {spec.name} has none")
    telling = next(header.path for header in headers if header.tells)
    silent = next((header.path for header in headers if header.rows and not header.tells), None)
    if silent is not None:
        raise ConfigError(
            f"{spec.name} must hold {name} in all its files, but {Path(telling).name} has some "
            f"and {Path(silent).name} has none"
        )
    if wish == "text":
        texts = [str(text) for text in told]
        vocabulary = build_vocabulary(texts)
        longest = max(1, *(len(words(text)) for text in texts))
        return Conditioning("tokens", len(vocabulary), longest), (), vocabulary
    numbers = [label for label in told if isinstance(label, int)]
    strings = [label for label in told if isinstance(label, str)]
    if numbers and strings:
        places = " and ".join(f"{label!r} in {Path(told[label]).name}" for label in (numbers[0], strings[0]))
        raise ConfigError(f"{spec.name} must hold integers or strings alone as labels, but has {places}")
    names = tuple(str(label) for label in [*sorted(numbers), *sorted(strings)])
    return Conditioning("class", len(names)), names, ()


def open_unit(spec: DataSpec, info: DataInfo, unit: Unit) -> Fetch:
    """How rows of a unit of images are fetched; a row group is held in memory as long as this is."""
    wishes: dict[str, Wish] = {"class": "class", "tokens": "text"}
    wish = wishes.get(info.conditioning.kind, "none")
    return parquet_fetch(unit, wish) if spec.format == "parquet" else tar_fetch(unit, wish)


def read_rows(
    spec: DataSpec, info: DataInfo, unit: Unit, rows: Sequence[int], fetch: Fetch | None = None
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read these rows of `unit`, in this order: uint8 images or float latents, condition, names of corrupt images.

    A corrupt image raises `ConfigError`; where `spec.corrupt` is skip, the next readable one of the unit, counting
    round its end, stands in its place, so that all other images keep theirs. fetch: the unit, if it is open.
    """
    if spec.format == "latents":
        path = Path(unit.path)
        latents, stored = read_shard(path.parent, path.name, unit.rows, info.shape, info.conditioning)
        index = torch.as_tensor(rows, dtype=torch.long)
        return latents[index], None if stored is None else stored[index], []
    fetch = fetch or open_unit(spec, info, unit)
    images, told, failed = [], [], []
    for row in rows:
        for step in range(unit.rows):
            content, value = fetch((row + step) % unit.rows)
            try:
                image = to_pixels(read_square(io.BytesIO(content), info.shape[1]), info.shape[0])
            # Pillow's decoders raise almost anything on a broken file.
            except Exception as error:
                name = f"{_place(spec, unit, (row + step) % unit.rows)} ({type(error).__name__})"
                if spec.corrupt == "refuse":
                    raise ConfigError(
                        f"{spec.name} must hold readable images, but cannot read {name}"
                    ) from None
                failed.append(name)
                continue
            images.append(image)
            told.append(value)
            break
        else:
            raise ConfigError(
                f"{unit.path} must hold readable images, but all {unit.rows} of a shard are not"
            )
    return torch.stack(images), _condition(info, told), list(dict.fromkeys(failed))


def _condition(info: DataInfo, told: list[int | str | None]) -> Tensor | None:
    if info.conditioning.kind == "class":
        index = {name: number for number, name in enumerate(info.class_names)}
        return torch.tensor([index.get(str(label), -1) for label in told])
    if info.conditioning.kind == "tokens":
        return tokenise([str(text or "") for text in told], info.vocabulary, info.conditioning.length)
    return None


def _place(spec: DataSpec, unit: Unit, row: int) -> str:
    """Where a person finds a row."""
    return parquet_place(unit, row) if spec.format == "parquet" else tar_place(unit, row)
