"""Shards of images or latents on disk: scan their headers."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from curriculum_ray.addresses import presentable
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import printable
from curriculum_ray.data.chosen_rows import NO_ROWS, ChosenRows, choose_rows
from curriculum_ray.data.digests import Stamp, sampled_digests
from curriculum_ray.data.headers import AnnotationKind, Header, Names, Unit
from curriculum_ray.data.holdout import LEAST_ITEMS
from curriculum_ray.data.images import DEFAULT_SIZE, list_failures
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latents import (
    LATENTS_FILE,
    latents_conditioning,
    latents_folder,
    read_latents_info,
)
from curriculum_ray.data.official import check_split, not_held_out, official_split
from curriculum_ray.data.parquet import parquet_header
from curriculum_ray.data.shard_conditions import labels_of, shard_conditioning
from curriculum_ray.data.shard_copies import copy_shards, folder_of
from curriculum_ray.data.shard_files import Shards, find_shards
from curriculum_ray.data.shard_notes import notes_of
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.suffixes import USUAL
from curriculum_ray.data.summary import DataSummary, LeftOut, LeftOutTally
from curriculum_ray.data.tar import tar_header

__all__ = ["MOST_HELD_OUT", "Scan", "scan"]

MOST_HELD_OUT = 1_024
"""Held-out items of a stream: they are kept in memory, and no more are needed to measure a loss."""
_SHARE = 10
"""At most one of so many items is held out of the shards that are trained on."""
_SEED = 0x4E1D
"""Of the choice of held-out rows: the same in every run."""


@dataclass(frozen=True)
class Scan:
    """The result of a scan of the headers."""

    info: DataInfo
    units: tuple[Unit, ...]
    held_out: ChosenRows = NO_ROWS
    """The held-out rows, of `units` or of those of another split."""

    @property
    def reserved(self) -> ChosenRows:
        """The rows of `units` that are held out, so that they are never trained on."""
        return self.held_out if self.held_out.units == self.units else NO_ROWS


def scan(spec: DataSpec) -> Scan:
    """Find the shards of `spec` and their content without reading an image; cached until a file changes."""
    found = find_shards(spec)
    return _held_out(spec, found, *_scan(spec.model_dump_json(), found.stamps(), found))


@lru_cache(maxsize=4)
def _scan(spec_json: str, stamp: tuple[Stamp, ...], found: Shards) -> tuple[DataInfo, tuple[Unit, ...]]:
    spec = DataSpec.model_validate_json(spec_json)
    copy_shards(spec.name, stamp)
    text = json.dumps([[Path(path).name, size] for path, size, _ in stamp])
    digest = hashlib.sha256(text.encode())
    for part in sampled_digests([path for path, _, _ in stamp]):
        digest.update(part)
    fingerprint = digest.hexdigest()
    name = printable(folder_of(spec.name).resolve().stem)
    summary = DataSummary(
        name=name,
        format=str(spec.format),
        path=spec.name,
        files=found.files,
        used=len(stamp),
        left_out=found.left_out,
        splits=dict(found.splits),
        split=found.split,
    )
    if spec.format == "latents":
        folder = latents_folder(spec.name)
        latents = read_latents_info(folder)
        there = {*found.paths}
        gone = [file for file, _ in latents.shards if folder / file not in there]
        if gone:
            raise ConfigError(
                f"data.name must hold all shards that its {LATENTS_FILE} lists, but {presentable(spec.name)} has no "
                f"{list_failures(gone)}"
            )
        units = tuple(Unit(str(folder / file), 0, rows) for file, rows in latents.shards)
        conditioning, classes, vocabulary = latents_conditioning(latents, spec)
        summary = replace(summary, items=latents.count, shape=latents.shape, conditioning=str(conditioning))
        info = DataInfo(
            name,
            latents.shape,
            conditioning,
            latents.count,
            fingerprint,
            classes,
            vocabulary,
            summary=summary,
        )
        return info, units
    read = parquet_header if spec.format == "parquet" else tar_header
    headers, names = _headers([path for path, _, _ in stamp], spec, read)
    _check_imageless(spec, headers)
    side = spec.image_size or DEFAULT_SIZE
    labels, counts = labels_of(spec, headers)
    conditioning, classes, vocabulary, line = shard_conditioning(spec, headers, labels)
    count = sum(header.rows for header in headers)
    if not count:
        raise ConfigError(f"{spec.name} must hold images, but has none")
    shape = (spec.channels or 3, side, side)
    units = tuple(unit for header in headers for unit in header.units)
    imageless = [f"{Path(header.path).name} sample {name}" for header in headers for name in header.imageless]
    members = LeftOutTally()
    for left in (each for header in headers for each in header.left_out):
        members.add(left.kind, left.example, left.count, left.matters)
    summary = replace(
        summary,
        items=count,
        shape=shape,
        conditioning=str(conditioning),
        conditioning_from=", ".join(dict.fromkeys(header.source for header in headers if header.source)),
        classes=dict(zip(classes, counts, strict=True)) if classes else {},
        unlabelled=count - sum(sum(header.counts) for header in headers) if conditioning else 0,
        left_out=(
            *summary.left_out,
            *members.found,
            *([LeftOut("samples without an image", len(imageless), imageless[0])] if imageless else []),
        ),
        notes=(
            *([found.note] if found.note else []),
            *notes_of(spec, headers, stamp),
            *([line] if line else []),
        ),
    )
    named = () if classes == tuple(map(str, labels)) else tuple(labels)
    info = DataInfo(
        name,
        shape,
        conditioning,
        count,
        fingerprint,
        classes,
        vocabulary,
        labels=named,
        other_labels=names.others,
        summary=summary,
    )
    return info, units


def _held_out(spec: DataSpec, found: Shards, info: DataInfo, units: tuple[Unit, ...]) -> Scan:
    """Hold out items of the validation or test split, if there is one beside the train split, else of `units`."""
    if spec.holdout_share == 0:
        return Scan(info, units)
    name = official_split(dict(found.splits), found.split)
    other, notes = _split(spec, info, name) if name else (None, ())
    assert info.summary is not None
    info = replace(info, summary=replace(info.summary, notes=(*info.summary.notes, *notes)))
    if other is not None:
        held, how = choose_rows(other, MOST_HELD_OUT, _SEED), f"of the {name} split"
    elif info.count >= LEAST_ITEMS:
        held, how = (
            choose_rows(units, min(MOST_HELD_OUT, info.count // _SHARE), _SEED),
            "chosen by their places",
        )
    else:
        return Scan(info, units)
    assert info.summary is not None
    summary = replace(info.summary, held_out=len(held), held_out_from=how)
    result = Scan(replace(info, held_out=len(held), summary=summary), units, held)
    return replace(result, info=replace(result.info, count=info.count - len(result.reserved)))


def _split(spec: DataSpec, info: DataInfo, name: str) -> tuple[tuple[Unit, ...] | None, tuple[str, ...]]:
    """The units of the split `name`, None where it cannot be held out beside `info`, and notes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = scan(spec.model_copy(update={"split": name, "holdout_share": 0, "corrupt": "skip"}))
        if info.conditioning.kind == "class" and other.info.other_labels != info.other_labels:
            raise ConfigError("its labels must go by the same name as those of the train split")
        return other.units, check_split(name, info, other.info)
    except ConfigError as error:
        return None, (not_held_out(name, error),)


def _headers(
    paths: list[str], spec: DataSpec, read: Callable[[str, AnnotationKind, Names], Header]
) -> tuple[list[Header], Names]:
    """Read the headers for the requested annotation, and the names that it goes by, the same in all of them.

    By default labels, captions, other labels or none.
    """
    plain, others = Names.of(spec), replace(Names.of(spec), others=True)
    requested = spec.conditioning
    if requested is None and (spec.label_column or spec.caption_column):
        requested = "class" if spec.label_column else "text"
    passes: list[tuple[AnnotationKind, Names]] = [
        ("class", plain),
        ("text", plain),
        ("class", others),
        ("none", plain),
    ]
    passes = [each for each in passes if requested in (None, each[0])]
    headers: list[Header] = []
    chosen: list[int] = []
    for path in paths:
        tries = ((number, read(path, *each)) for number, each in enumerate(passes))
        last = len(passes) - 1
        number, header = next((number, found) for number, found in tries if found.values or number == last)
        headers.append(header)
        chosen.append(number)
    first = min(chosen)
    each, names = passes[first]
    same = [
        header if number == first else read(header.path, each, names)
        for header, number in zip(headers, chosen, strict=True)
    ]
    return same, names


def _check_imageless(spec: DataSpec, headers: list[Header]) -> None:
    names = [f"{Path(header.path).name} sample {name}" for header in headers for name in header.imageless]
    if not names:
        return
    what = f"{len(names)} of {len(names) + sum(header.rows for header in headers)} have none: "
    if spec.corrupt == "refuse":
        raise ConfigError(
            f"{spec.name} must hold an image ({USUAL}) in each sample, but {what}{list_failures(names)}"
        )
    warnings.warn(f"samples of {spec.name} were skipped: {what}{list_failures(names)}", stacklevel=4)
