"""WebDataset shards: tar files in which members that share a name up to its first dot are one sample."""

from __future__ import annotations

import json
import os
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.data.headers import Fetch, Header, Unit, Wish
from curriculum_ray.data.images import SUFFIXES

__all__ = ["tar_fetch", "tar_header", "tar_place"]

# Members that only an unpickler could read.
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "npy", "npz")
_BLOCK = tarfile.BLOCKSIZE

Sample = dict[str, tuple[int, int]]
"""Offset and size of each member, by its extension."""


def tar_header(path: str, wish: Wish) -> Header:
    """The samples of `path` that have an image, and the labels or captions of these that `wish` asks for."""
    samples, bare = _index(path)
    told: dict[int | str, None] = {}
    tells = False
    if wish != "none":
        with open(path, "rb") as file:
            for key, (_, sample) in samples.items():
                says, value = _told(path, file, key, sample, wish)
                tells = tells or says
                # Label 0 is one, an empty caption is none.
                if value not in (None, ""):
                    told[value] = None
    return Header(path, wish, (Unit(path, 0, len(samples)),), tuple(told), tells, bare)


def tar_fetch(unit: Unit, wish: Wish) -> Fetch:
    """How samples of the tar file `unit` are read, one at a time."""
    samples = list(_index(unit.path)[0].items())

    def fetch(row: int) -> tuple[bytes, int | str | None]:
        key, (image, sample) = samples[row]
        with open(unit.path, "rb") as file:
            content = _member(file, sample[image])
            return content, None if wish == "none" else _told(unit.path, file, key, sample, wish)[1]

    return fetch


def tar_place(unit: Unit, row: int) -> str:
    """Where a person finds a row of `unit`: the name of its sample."""
    return f"{Path(unit.path).name} sample {list(_index(unit.path)[0])[row]}"


def _index(path: str) -> tuple[dict[str, tuple[str, Sample]], tuple[str, ...]]:
    """By name of a sample the extension of its image and all members; and the names of samples without an image."""
    try:
        state = os.stat(path)
        return _index_of(path, state.st_size, state.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{path} cannot be read as an uncompressed tar file: {error}") from None


@lru_cache(maxsize=8)
def _index_of(path: str, size: int, changed: int) -> tuple[dict[str, tuple[str, Sample]], tuple[str, ...]]:
    found: dict[str, Sample] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            folder, _, file = member.name.rpartition("/")
            stem, _, extension = file.partition(".")
            if not stem or member.isdir():
                continue
            if not member.isfile():
                raise ConfigError(f"{path} must hold files alone, but {member.name} is a link or a device")
            extension = extension.lower()
            if extension.rpartition(".")[2] in _PICKLES:
                raise ConfigError(
                    f"{path} must hold images, .cls, .txt and .json alone, but has {member.name}: "
                    "such files may run code when they are read"
                )
            sample = found.setdefault(f"{folder}/{stem}".lstrip("/"), {})
            if extension in sample:
                raise ConfigError(f"{path} must hold each member once, but has {member.name} twice")
            sample[extension] = (member.offset_data, member.size)
        _check_end(path, tar.offset)
    images = {key: _image(path, key, sample) for key, sample in found.items()}
    samples = {key: (image, found[key]) for key, image in images.items() if image is not None}
    return samples, tuple(key for key, image in images.items() if image is None)


def _check_end(path: str, end: int) -> None:
    """Refuse a file cut or damaged at `end`, where tarfile takes a header that it cannot read for the archive's end."""
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
        if len(block) < _BLOCK or block.strip(b"\0"):
            raise ConfigError(
                f"{path} must end in a block of zeros, as tar files do, but is cut or damaged at byte {end}"
            )
        while rest := file.read(1 << 20):
            if rest.strip(b"\0"):
                raise ConfigError(f"{path} must be one tar file, but has more after its end at byte {end}")


def _image(path: str, key: str, sample: Sample) -> str | None:
    """The extension of the sample's image: png or, where no such is there, anything.png."""
    images = [extension for extension in sample if f".{extension.rpartition('.')[2]}" in SUFFIXES]
    plain = [extension for extension in images if "." not in extension] or images
    if len(plain) > 1:
        names = ", ".join(f"{key}.{extension}" for extension in plain[:3])
        raise ConfigError(
            f"{path} must hold one image a sample, whose name ends at its first dot, "
            f"but sample {key} has {len(plain)}: {names}"
        )
    return plain[0] if plain else None


def _member(file: Any, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    content: bytes = file.read(place[1])
    return content


def _told(path: str, file: Any, key: str, sample: Sample, wish: Wish) -> tuple[bool, int | str | None]:
    """Whether a sample says its label or caption, and what: from .cls or .txt, or else from its .json."""
    if wish == "class" and "cls" in sample:
        return True, _whole_number(f"{path} member {key}.cls", _member(file, sample["cls"]))
    if wish == "text" and "txt" in sample:
        content = _member(file, sample["txt"])
        try:
            return True, content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path} member {key}.txt must be text in UTF-8, but got byte {content[error.start]:#04x} "
                f"at {error.start}"
            ) from None
    if "json" not in sample:
        return False, None
    place = f"{path} member {key}.json"
    try:
        values = json.loads(_member(file, sample["json"]))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place} must be JSON, but: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{place} must be a JSON object, but got {_short(values)}")
    name = "label" if wish == "class" else "caption"
    value = values.get(name)
    types = (int, str) if wish == "class" else (str,)
    # JSON's true and false are integers to Python.
    if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
        rule = "an integer or a string" if wish == "class" else "a string"
        raise ConfigError(f"{place} key {name} must be {rule}, but got {_short(value)}")
    return name in values, value


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
