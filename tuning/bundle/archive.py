"""The file format of a bundle: a zip of small files with a manifest of their SHA-256 digests.

It is never unpacked. Whoever reads one takes it for a stranger's: its names, sizes and digests are checked before any
content is looked at, and nothing of it is written to a disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pydantic

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import TextFault, read_json
from curriculum_ray.config.shown import shown
from curriculum_ray.config.stored import Stored

__all__ = ["LARGEST", "MANIFEST_FILE", "Bundle", "Manifest", "archived", "bundle_of", "read_bundle"]

MANIFEST_FILE = "manifest.json"
LARGEST = 2**28
"""Bytes of a bundle, and of all that is in it."""
_LARGEST_PART = 2**26
_MOST_PARTS = 2**16
_NAME = re.compile(r"[^\W_][\w.-]{0,199}(/[^\W_][\w.-]{0,199}){0,2}")
# The oldest date of a zip: equal contents make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644
_ENCRYPTED = 0x1


class ArchivedFile(pydantic.BaseModel):
    """What the manifest says of a file."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bytes: int = pydantic.Field(ge=0)
    sha256: str = pydantic.Field(pattern="^[0-9a-f]{64}$")


class Manifest(Stored):
    """Contents of manifest.json."""

    kind: Literal["curriculum-ray bundle"] = "curriculum-ray bundle"
    study: str
    """The study's name."""
    id: str
    """The study's id."""
    files: dict[str, ArchivedFile]
    """All other files of the bundle, by name."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose digests are right."""

    source: str
    """Its path, for errors."""
    manifest: Manifest
    files: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """The text of a file; ConfigError where there is none."""
        if name not in self.files:
            raise ConfigError(f"{self.source} holds no {name}")
        try:
            return self.files[name].decode()
        except UnicodeDecodeError as error:
            raise self.fault(name, str(error)) from None

    def json(self, name: str) -> object:
        """The JSON value in a file; ConfigError where there is none."""
        try:
            return read_json(self.text(name))
        except TextFault as error:
            raise self.fault(name, str(error)) from None

    def fault(self, name: str, why: str) -> ConfigError:
        """The error of a file that cannot be read."""
        return ConfigError(f"{name} in {self.source} is not readable: {why}")


def archived(study: str, study_id: str, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle with these files; equal files make equal bytes."""
    parts = {
        name: ArchivedFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(files.items())
    }
    manifest = Manifest(study=study, id=study_id, files=parts)
    whole = {MANIFEST_FILE: json.dumps(manifest.to_json(), indent=1).encode(), **dict(sorted(files.items()))}
    _check_sizes({name: len(content) for name, content in whole.items()}, f"the bundle of {study}")
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in whole.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr, entry.create_system = _MODE << 16, 3
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return result.getvalue()


def bundle_of(content: bytes, source: str) -> Bundle:
    """The bundle that `archived` made, as whoever reads it finds it; ConfigError, one line, where it is none."""
    return _read(io.BytesIO(content), source)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle of whatever origin; ConfigError, one line, unless it is exactly what its manifest says."""
    try:
        with open(path, "rb") as file:
            if (size := file.seek(0, io.SEEK_END)) > LARGEST:
                raise ConfigError(f"{path} has {size:,} bytes, but a bundle has {LARGEST:,} at most")
            return _read(file, str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    # zipfile raises any of these for bytes that are none of a zip.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not a bundle, or damaged: {error}") from None


def _read(file: IO[bytes], source: str) -> Bundle:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        _check_names(names, source)
        _check_sizes({entry.filename: entry.file_size for entry in entries}, source)
        for entry in entries:
            usual = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not usual or entry.flag_bits & _ENCRYPTED:
                raise ConfigError(
                    f"{source} holds {entry.filename} encrypted, or compressed in an unusual way"
                )
        # Not more than its directory says, which has been checked.
        contents = {entry.filename: archive.open(entry).read(entry.file_size) for entry in entries}
    if MANIFEST_FILE not in contents:
        raise ConfigError(f"{source} is not a bundle: it holds no {MANIFEST_FILE}")
    text = contents.pop(MANIFEST_FILE)
    try:
        manifest = Manifest.from_json(read_json(text.decode()), f"{MANIFEST_FILE} in {source}")
    except (TextFault, UnicodeDecodeError) as error:
        raise ConfigError(f"{MANIFEST_FILE} in {source} is not readable: {error}") from None
    _check_digests(manifest, contents, source)
    return Bundle(source, manifest, contents)


def _check_names(names: list[str], source: str) -> None:
    wrong = next((name for name in names if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise ConfigError(f"{source} holds a name that no file of a bundle has: {shown(wrong)}")
    if len({*names}) < len(names):
        raise ConfigError(f"{source} holds a name twice: {shown(max(names, key=names.count))}")


def _check_sizes(sizes: Mapping[str, int], source: str) -> None:
    if len(sizes) > _MOST_PARTS:
        raise ConfigError(f"{source} holds {len(sizes):,} files, but may hold {_MOST_PARTS:,} at most")
    large = next((name for name, size in sizes.items() if size > _LARGEST_PART), None)
    if large is not None:
        raise ConfigError(
            f"{source}: {large} has {sizes[large]:,} bytes, but may have {_LARGEST_PART:,} at most"
        )
    if (total := sum(sizes.values())) > LARGEST:
        raise ConfigError(f"{source} holds {total:,} bytes, but may hold {LARGEST:,} at most")


def _check_digests(manifest: Manifest, contents: Mapping[str, bytes], source: str) -> None:
    if strange := sorted(contents.keys() ^ manifest.files.keys()):
        lacks = strange[0] in manifest.files
        what = "lacks {}, which its manifest lists" if lacks else "holds {}, which its manifest does not list"
        raise ConfigError(f"{source} {what.format(strange[0])}")
    for name, part in manifest.files.items():
        if hashlib.sha256(contents[name]).hexdigest() != part.sha256:
            raise ConfigError(
                f"{source} was changed: {name} does not match the SHA-256 digest in its manifest"
            )
