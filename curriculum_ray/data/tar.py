"""WebDataset shards: tar files whose members form a sample if their names agree up to the first dot."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.data.columns import LABEL_NAMES, SHARD_CAPTIONS
from curriculum_ray.data.headers import AnnotationKind, Fetch, Header, Names, Unit
from curriculum_ray.data.suffixes import SUFFIXES
from curriculum_ray.data.summary import LeftOut, LeftOutTally
from curriculum_ray.data.text import decode, parse_json
from curriculum_ray.data.walk import junk_within

__all__ = ["tar_fetch", "tar_header", "tar_location"]

# Members that are, or may be, pickles.
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "npy", "npz")
_BLOCK = tarfile.BLOCKSIZE

Sample = dict[str, tuple[int, int]]
"""Offset and size of each member, by its extension."""


# Members with captions and labels, in the order of preference.
_CAPTION_MEMBERS = ("txt", "caption", "text", "captions", "prompt")
_LABEL_MEMBERS = ("cls", "class", "label")


def tar_header(path: str, wanted: AnnotationKind, names: Names | None = None) -> Header:
    """Read the samples of `path` that have an image, and their `wanted` annotations."""
    names = names or Names()
    found = _index(path, names.image)
    values: Counter[int | str] = Counter()
    read, sources = set[str](), dict[str, None]()
    if wanted != "none":
        with open(path, "rb") as file:
            for key, (image, sample) in found.samples.items():
                member, source, value = _annotation(path, file, key, image, sample, wanted, names)
                if source:
                    sources[source] = None
                    read.add(f"{key}.{member}")
                # 0 is a label, an empty caption counts as none.
                if value not in (None, ""):
                    values[value] += 1
    left, unread = _unread(found, read, wanted)
    return Header(
        path,
        wanted,
        (Unit(path, 0, len(found.samples)),),
        tuple(values),
        bool(sources),
        found.imageless,
        counts=tuple(values.values()),
        source=" and ".join(sources),
        image=next((f".{image}" for image, _ in found.samples.values()), ""),
        left_out=(*found.left_out, *left),
        unread=unread,
    )


def tar_fetch(unit: Unit, wanted: AnnotationKind, names: Names | None = None) -> Fetch:
    """Return a function that reads samples of the tar file `unit`, one at a time."""
    names = names or Names()
    samples = list(_index(unit.path, names.image).samples.items())

    def fetch(row: int) -> tuple[bytes, int | str | None]:
        key, (image, sample) = samples[row]
        with open(unit.path, "rb") as file:
            content = _member(file, sample[image])
            if wanted == "none":
                return content, None
            return content, _annotation(unit.path, file, key, image, sample, wanted, names)[2]

    return fetch


def tar_location(unit: Unit, row: int, names: Names | None = None) -> str:
    """Name a row of `unit` by its sample."""
    samples = _index(unit.path, names.image if names else None).samples
    return f"{Path(unit.path).name} sample {list(samples)[row]}"


@dataclass(frozen=True)
class _Index:
    samples: dict[str, tuple[str, Sample]]
    """The extension of the image and all members, by name of the sample."""
    imageless: tuple[str, ...]
    """Names of samples without an image."""
    left_out: tuple[LeftOut, ...]


def _index(path: str, image: str | None) -> _Index:
    try:
        state = os.stat(path)
        return _index_of(path, image, state.st_size, state.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{path} cannot be read as an uncompressed tar file: {error}") from None


@lru_cache(maxsize=8)
def _index_of(path: str, requested: str | None, size: int, changed: int) -> _Index:
    found: dict[str, Sample] = {}
    tally = LeftOutTally()
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            folder, _, file = member.name.rpartition("/")
            stem, _, extension = file.partition(".")
            if member.isdir():
                continue
            if kind := junk_within(member.name):
                tally.add(f"members: {kind}", f"{Path(path).name} {member.name}")
                continue
            if not member.isfile():
                raise ConfigError(f"{path} must hold only files, but {member.name} is a link or a device")
            extension = extension.lower()
            if extension.rpartition(".")[2] in _PICKLES:
                raise ConfigError(
                    f"{path} must hold only images, .cls, .txt and .json, but has {member.name}: "
                    "reading such files may run code"
                )
            sample = found.setdefault(f"{folder}/{stem}".lstrip("/"), {})
            if extension in sample:
                raise ConfigError(f"{path} must hold each member once, but has {member.name} twice")
            sample[extension] = (member.offset_data, member.size)
        _check_end(path, tar.offset)
    images = {key: _image(path, key, sample, requested) for key, sample in found.items()}
    samples = {key: (image, found[key]) for key, image in images.items() if image is not None}
    return _Index(samples, tuple(key for key, image in images.items() if image is None), tally.found)


def _check_end(path: str, end: int) -> None:
    """Refuse a file truncated or damaged at `end`: to tarfile, an unreadable header ends the archive."""
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
        if len(block) < _BLOCK or block.strip(b"\0"):
            raise ConfigError(
                f"{path} must end in a block of zeros, as tar files do, but is truncated or damaged at byte {end}"
            )
        while rest := file.read(1 << 20):
            if rest.strip(b"\0"):
                raise ConfigError(f"{path} must be one tar file, but has more after its end at byte {end}")


def _image(path: str, key: str, sample: Sample, requested: str | None) -> str | None:
    """Return the extension of the sample's image: `requested` or, by default, e.g. png, else anything.png."""
    if requested is not None:
        return next((extension for extension in sample if extension == requested.lower().lstrip(".")), None)
    images = [extension for extension in sample if f".{extension.rpartition('.')[2]}" in SUFFIXES]
    plain = [extension for extension in images if "." not in extension] or images
    if len(plain) > 1:
        names = ", ".join(f"{key}.{extension}" for extension in plain[:3])
        raise ConfigError(
            f"{path} must hold one image per sample, whose name ends at its first dot, "
            f"but sample {key} has {len(plain)}: {names} (data.image_column {plain[0]} would choose one)"
        )
    return plain[0] if plain else None


def _beside(image: str, sample: Sample, name: str) -> str | None:
    """Return the member `name` of a sample: v1.txt for v1.png, else txt, else the only one ending in .txt."""
    prefix = image.rpartition(".")[0]
    exact = [extension for extension in (f"{prefix}.{name}".lstrip("."), name) if extension in sample]
    ending = [extension for extension in sample if extension.endswith(f".{name}")]
    return exact[0] if exact else ending[0] if len(ending) == 1 else None


def _member(file: Any, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    content: bytes = file.read(place[1])
    return content


def _annotation(
    path: str, file: Any, key: str, image: str, sample: Sample, wanted: AnnotationKind, names: Names
) -> tuple[str, str, int | str | None]:
    """Return the member with a sample's label or caption, a description of it ("" for none), and the value.

    Members such as .cls, or .txt and .caption, take precedence over keys of .json; or the configured name is
    read.
    """
    named = names.label if wanted == "class" else names.caption
    members = (
        (_LABEL_MEMBERS if names.others else _LABEL_MEMBERS[:1]) if wanted == "class" else _CAPTION_MEMBERS
    )
    for name in (named.lower().lstrip("."),) if named is not None else members:
        member = _beside(image, sample, name)
        if member is not None and member != image and member.rpartition(".")[2] != "json":
            place, content = f"{path} member {key}.{member}", _member(file, sample[member])
            return member, f".{name}", _label(place, content) if wanted == "class" else _text(place, content)
    member = _beside(image, sample, "json")
    if member is None:
        return "", "", None
    place = f"{path} member {key}.{member}"
    try:
        values = parse_json(decode(_member(file, sample[member])))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place} must be JSON, but: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{place} must be a JSON object, but got {_short(values)}")
    usual = (LABEL_NAMES if names.others else LABEL_NAMES[:1]) if wanted == "class" else SHARD_CAPTIONS
    found = next((name for name in ((named,) if named is not None else usual) if name in values), None)
    if found is None:
        return "", "", None
    value = values[found]
    types = (int, str) if wanted == "class" else (str,)
    # In Python, JSON's true and false are integers.
    if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
        rule = "an integer or a string" if wanted == "class" else "a string"
        raise ConfigError(f"{place} key {found} must be {rule}, but got {_short(value)}")
    return member, f"key {found} of .json", None if wanted == "class" and value == -1 else value


def _label(place: str, content: bytes) -> int | None:
    """Parse a label; -1 means no label."""
    number = _whole_number(place, content)
    return None if number == -1 else number


def _text(place: str, content: bytes) -> str:
    try:
        return decode(content)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{place} must be text in UTF-8, but got byte {content[error.start]:#04x} at {error.start}"
        ) from None


def _unread(found: _Index, read: set[str], wanted: AnnotationKind) -> tuple[list[LeftOut], tuple[str, ...]]:
    """Tally members that are not read, by extension, and name those that may be captions or labels."""
    tally = LeftOutTally()
    meant: dict[str, None] = {}
    for key, (image, sample) in found.samples.items():
        for extension in sample:
            name = f"{key}.{extension}"
            if extension == image or name in read:
                continue
            last = extension.rpartition(".")[2]
            if f".{last}" in SUFFIXES:
                tally.add("members that are other images of a sample", name)
                continue
            tally.add(f"members .{last}", name)
            if last in (*_CAPTION_MEMBERS, *_LABEL_MEMBERS) or (wanted == "none" and last != "json"):
                meant[f".{last}"] = None
    return list(tally.found), tuple(meant)


def _whole_number(place: str, content: bytes) -> int:
    try:
        return int(content)
    except ValueError:
        raise ConfigError(
            f"{place} must be a whole number, but got {content[:40].decode(errors='replace')!r}"
        ) from None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
