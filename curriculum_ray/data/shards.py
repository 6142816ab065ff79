"""Shards of images or latents on disk: what they hold, learnt from their headers, and reading single rows."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.images import DEFAULT_SIZE, read_square, to_pixels
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latents import read_latents_info, read_shard
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.vocabulary import build_vocabulary, tokenise, words

__all__ = ["Scan", "Unit", "open_unit", "read_rows", "scan"]

_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp")
# Members that only an unpickler could read.
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "npy", "npz")


@dataclass(frozen=True)
class Unit:
    """What is read at a time: a row group of a Parquet file, a tar file, or a file of latents."""

    path: str
    group: int
    rows: int


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
        classed = bool(latents.class_names) and spec.conditioning != "none"
        info = DataInfo(
            name,
            latents.shape,
            Conditioning("class", len(latents.class_names)) if classed else NO_CONDITIONING,
            latents.count,
            fingerprint,
            latents.class_names if classed else (),
        )
        return Scan(info, units)
    read = _parquet_headers if spec.format == "parquet" else _tar_headers
    units_found: list[Unit] = []
    labels: set[Any] = set()
    texts: dict[str, None] = {}
    for path, _, _ in stamp:
        more_units, more_labels, more_texts = read(path, spec.conditioning)
        units_found += more_units
        labels |= more_labels
        texts.update(dict.fromkeys(more_texts))
    side = spec.image_size or DEFAULT_SIZE
    told, classes, vocabulary = _told(spec, labels, list(texts))
    count = sum(unit.rows for unit in units_found)
    if not count:
        raise ConfigError(f"{spec.name} must hold images, but has none")
    shape = (spec.channels or 3, side, side)
    return Scan(DataInfo(name, shape, told, count, fingerprint, classes, vocabulary), tuple(units_found))


def _told(
    spec: DataSpec, labels: set[Any], texts: Sequence[str]
) -> tuple[Conditioning, tuple[str, ...], tuple[str, ...]]:
    """The conditioning, class names and vocabulary that the headers' labels and captions make."""
    wish = spec.conditioning or ("class" if labels else "text" if texts else "none")
    if wish == "class":
        if not labels:
            raise ConfigError(f"data.conditioning class needs labels, but {spec.name} has none")
        names = tuple(
            str(label) for label in sorted(labels, key=lambda label: (isinstance(label, str), label))
        )
        return Conditioning("class", len(names)), names, ()
    if wish == "text":
        if not texts:
            raise ConfigError(f"data.conditioning text needs captions, but {spec.name} has none")
        vocabulary = build_vocabulary(texts)
        longest = max(1, *(len(words(text)) for text in texts))
        return Conditioning("tokens", len(vocabulary), longest), (), vocabulary
    return NO_CONDITIONING, (), ()


def _parquet_headers(path: str, wish: str | None) -> tuple[list[Unit], set[Any], list[str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        if "image" not in file.schema_arrow.names:
            raise ConfigError(
                f"{path} must have a column `image`, but has {', '.join(file.schema_arrow.names)}"
            )
        groups = range(file.metadata.num_row_groups)
        units = [Unit(path, group, file.metadata.row_group(group).num_rows) for group in groups]
        names = set(file.schema_arrow.names)
        labels = _column(file, "label") if "label" in names and wish in (None, "class") else []
        texts = _column(file, "caption") if "caption" in names and wish in (None, "text") else []
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    return units, {label for label in labels if label is not None}, [text for text in texts if text]


def _column(file: Any, name: str) -> list[Any]:
    values: list[Any] = []
    for batch in file.iter_batches(columns=[name]):
        values += batch.column(0).unique().to_pylist()
    return values


def _tar_headers(path: str, wish: str | None) -> tuple[list[Unit], set[Any], list[str]]:
    samples = _tar_index(path)
    with open(path, "rb") as file:
        told = [_tar_told(file, sample) for sample in samples.values()]
    labels = {label for label, _ in told if label is not None} if wish in (None, "class") else set()
    texts = [text for _, text in told if text] if wish in (None, "text") else []
    return [Unit(path, 0, len(samples))], labels, texts


@lru_cache(maxsize=8)
def _tar_index(path: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Offset and size of each member, by sample key and extension, of the samples that have an image."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, extension = file.partition(".")
                extension = extension.lower()
                if extension.rpartition(".")[2] in _PICKLES:
                    raise ConfigError(
                        f"{path} must hold images, .cls, .txt and .json alone, but has {member.name}: "
                        "such files may run code when they are read"
                    )
                samples.setdefault(f"{folder}/{stem}", {})[extension] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{path} cannot be read as an uncompressed tar file: {error}") from None
    return {key: found for key, found in samples.items() if any(name in found for name in _IMAGES)}


def _member(file: Any, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    content: bytes = file.read(place[1])
    return content


def _tar_told(file: Any, sample: dict[str, tuple[int, int]]) -> tuple[Any, str]:
    """Label and caption of one sample, from its .cls, .txt and .json."""
    label, text = None, ""
    if "json" in sample:
        values = json.loads(_member(file, sample["json"]))
        label, text = values.get("label"), values.get("caption", "")
    if "cls" in sample:
        label = int(_member(file, sample["cls"]))
    if "txt" in sample:
        text = _member(file, sample["txt"]).decode()
    return label, text


Fetch = Callable[[int], tuple[bytes, Any, str]]
"""From a row of a unit to its encoded image, label and caption."""


def open_unit(spec: DataSpec, info: DataInfo, unit: Unit) -> Fetch:
    """How rows of a unit of images are fetched; a row group is held in memory as long as this is."""
    return _parquet_fetch(unit, info) if spec.format == "parquet" else _tar_fetch(unit)


def read_rows(
    spec: DataSpec, info: DataInfo, unit: Unit, rows: Sequence[int], fetch: Fetch | None = None
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read these rows of `unit`, in this order: uint8 images or float latents, condition, names of corrupt images.

    A corrupt image raises `ConfigError`; where `spec.corrupt` is skip, the next readable one of the unit, counting
    round its end, stands in its place, so that all other images keep theirs. fetch: the unit, if it is open.
    """
    if spec.format == "latents":
        path = Path(unit.path)
        latents, labels = read_shard(path.parent, path.name, unit.rows, info.shape)
        index = torch.as_tensor(rows, dtype=torch.long)
        told = labels[index] if labels is not None and info.conditioning else None
        return latents[index], told, []
    fetch = fetch or open_unit(spec, info, unit)
    images, told_labels, texts, failed = [], [], [], []
    for row in rows:
        for step in range(unit.rows):
            content, label, text = fetch((row + step) % unit.rows)
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
            told_labels.append(label)
            texts.append(text)
            break
        else:
            raise ConfigError(
                f"{unit.path} must hold readable images, but all {unit.rows} of a shard are not"
            )
    return torch.stack(images), _condition(info, told_labels, texts), list(dict.fromkeys(failed))


def _condition(info: DataInfo, labels: list[Any], texts: list[str]) -> Tensor | None:
    if info.conditioning.kind == "class":
        index = {name: number for number, name in enumerate(info.class_names)}
        return torch.tensor([index.get(str(label), -1) for label in labels])
    if info.conditioning.kind == "tokens":
        return tokenise(texts, info.vocabulary, info.conditioning.length)
    return None


def _place(spec: DataSpec, unit: Unit, row: int) -> str:
    """Where a person finds a row: its number in the Parquet file, or the name of the sample in the tar file."""
    file = Path(unit.path).name
    if spec.format != "parquet":
        return f"{file} sample {list(_tar_index(unit.path))[row].lstrip('/')}"
    from pyarrow import parquet

    metadata = parquet.read_metadata(unit.path)
    return f"{file} row {row + sum(metadata.row_group(group).num_rows for group in range(unit.group))}"


def _parquet_fetch(unit: Unit, info: DataInfo) -> Fetch:
    from pyarrow import parquet

    file = parquet.ParquetFile(unit.path)
    wanted = {"class": ["label"], "tokens": ["caption"]}.get(info.conditioning.kind, [])
    columns = [name for name in ("image", *wanted) if name in file.schema_arrow.names]
    table = file.read_row_group(unit.group, columns=columns)

    def fetch(row: int) -> tuple[bytes, Any, str]:
        values = {name: table[name][row].as_py() for name in columns}
        image = values["image"]
        content = image["bytes"] if isinstance(image, dict) else image
        return content or b"", values.get("label"), values.get("caption") or ""

    return fetch


def _tar_fetch(unit: Unit) -> Fetch:
    samples = list(_tar_index(unit.path).values())

    def fetch(row: int) -> tuple[bytes, Any, str]:
        sample = samples[row]
        with open(unit.path, "rb") as file:
            image = _member(file, next(sample[name] for name in _IMAGES if name in sample))
            return image, *_tar_told(file, sample)

    return fetch
