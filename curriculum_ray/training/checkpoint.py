"""Checkpoints: safetensors and JSON in a folder, written whole or not at all, verified when read."""

from __future__ import annotations

import filecmp
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "SAMPLED_FROM",
    "Checkpoint",
    "CheckpointNotWritten",
    "checkpoint_in",
    "checkpoint_name",
    "find_checkpoints",
    "images_at",
    "is_checkpoint",
    "is_checkpoint_name",
    "keep_only",
    "newest_sound",
    "prune",
    "put_back",
    "read",
    "recorded_digests",
    "write",
]

_LOG = logging.getLogger(__name__)

FORMAT_VERSION = 1
_STATE = "state.json"
MANIFEST = _STATE
"""The file of a checkpoint that is written last: it names the others, with their digests."""
_PREFIX = "checkpoint-"
_ASIDE = ".old.tmp"
SAMPLED_FROM = ("ema.safetensors", _STATE)
"""The files of a checkpoint from which the averaged weights are sampled; the others continue the training."""


class CheckpointNotWritten(OSError):
    """A checkpoint could not be written, e.g. to a full disk; the message is one line, and earlier ones are intact."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of a checkpoint folder.

    `tensors` maps a group ("model", "ema", "optimizer", ...) to named tensors; `state` is JSON-safe. Those of a folder
    are on the CPU; those of a run may be its own, which its next step changes.
    """

    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    state: Mapping[str, Any]
    digest: str = ""
    """SHA-256 of the manifest of the folder that it was read from: equal only where all files are."""


def checkpoint_name(key: str, images: int) -> str:
    """The folder name of a checkpoint of the run `key` after `images` images; names sort by images."""
    return f"{_PREFIX}{key}-{images:012d}"


def is_checkpoint_name(name: str, key: str | None = None) -> bool:
    """Whether `checkpoint_name` gives that name to a folder of the run `key`, or of any."""
    run, _, images = name.removeprefix(_PREFIX).rpartition("-")
    whole = name.startswith(_PREFIX) and len(images) == 12 and images.isdecimal()
    return whole and key in (None, run)


def images_at(name: str) -> int:
    """The images in a name that `checkpoint_name` gave."""
    return int(name.rpartition("-")[2])


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write to a temporary folder, flush it to the disk, and rename: a reader sees all of it or nothing.

    An earlier one with the same content stays as it is. Any other is set aside until the new one is in its place; after
    a kill in between, `put_back` restores it.

    Raises CheckpointNotWritten, and leaves nothing half written, when the disk refuses it.
    """
    folder = Path(folder)
    temporary, aside = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in (".tmp", _ASIDE))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _fill(temporary, checkpoint)
        if not _holds(folder, temporary):
            if folder.exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(folder, aside)
            os.rename(temporary, folder)
            _flush_directory(folder.parent)
    except OSError as error:
        if aside.exists() and not folder.exists():
            with suppress(OSError):
                os.rename(aside, folder)
        raise CheckpointNotWritten(
            f"checkpoint {folder} was not written: {error.strerror or error}; earlier ones still stand"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)
    return folder


def _holds(folder: Path, other: Path) -> bool:
    """Whether `folder` has all files of the checkpoint `other`, byte by byte."""
    names = [file.name for file in other.iterdir()]
    _, different, missing = filecmp.cmpfiles(folder, other, names, shallow=False)
    return not different and not missing


def put_back(folder: Path, key: str) -> None:
    """Put back checkpoints of the run `key` that a killed `write` had set aside, unless others took their place."""
    for aside in Path(folder).glob(f".{_PREFIX}{key}-{'[0-9]' * 12}.*{_ASIDE}"):
        place = aside.with_name(aside.name.removesuffix(_ASIDE).rpartition(".")[0].removeprefix("."))
        if not place.exists():
            with suppress(OSError):
                os.rename(aside, place)


def _fill(temporary: Path, checkpoint: Checkpoint) -> None:
    temporary.mkdir(parents=True)
    digests = {}
    for group, tensors in checkpoint.tensors.items():
        payload = save_bytes(_apart(tensors))
        digests[f"{group}.safetensors"] = hashlib.sha256(payload).hexdigest()
        _write_flushed(temporary / f"{group}.safetensors", payload)
    # As a reader will see it: with tuples turned into lists.
    state = json.loads(json.dumps(dict(checkpoint.state)))
    digests[_STATE] = _state_digest(state)
    whole = {"version": FORMAT_VERSION, "sha256": digests, **state}
    _write_flushed(temporary / _STATE, json.dumps(whole, indent=1).encode())


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU, of which no two share memory, as those of tied weights do and safetensors refuses."""
    result: dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.numel() and value.data_ptr() in seen:
            value = value.clone()
        seen.add(value.data_ptr())
        result[name] = value
    return result


def _state_digest(state: Any) -> str:
    """SHA-256 of a JSON value, whatever its formatting."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _write_flushed(path: Path, payload: bytes) -> None:
    with open(path, "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: str | Path, groups: tuple[str, ...] | None = None) -> Checkpoint:
    """Read a checkpoint folder, or only some `groups` of its tensors.

    Raises ConfigError, one line, when it is missing, of another version, incomplete or corrupt.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"checkpoint {folder} does not exist")
    try:
        manifest = read_regular(folder / _STATE)
        state = read_own_json(manifest)
        version, digests = state.pop("version"), dict(state.pop("sha256"))
    except FileNotFoundError:
        raise ConfigError(f"checkpoint {folder} is not one: it holds no {_STATE}") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"checkpoint {folder} is corrupt: {_STATE} is unreadable ({error})") from None
    if version != FORMAT_VERSION:
        raise ConfigError(f"checkpoint {folder} has version {version}, but only {FORMAT_VERSION} can be read")
    # Checkpoints written before there was a digest have none.
    if digests.pop(_STATE, None) not in (None, _state_digest(state)):
        raise ConfigError(f"checkpoint {folder} is corrupt: {_STATE} does not match its SHA-256")
    tensors = {}
    for file, digest in digests.items():
        group = file.removesuffix(".safetensors")
        if groups is not None and group not in groups:
            continue
        try:
            payload = read_regular(folder / file)
        except OSError as error:
            raise ConfigError(f"checkpoint {folder} is incomplete: {file}: {error.strerror}") from None
        if hashlib.sha256(payload).hexdigest() != digest:
            raise ConfigError(f"checkpoint {folder} is corrupt: {file} does not match its SHA-256")
        try:
            tensors[group] = load_bytes(payload)
        except SafetensorError as error:
            raise ConfigError(f"checkpoint {folder} is corrupt: {file}: {error}") from None
    return Checkpoint(tensors=tensors, state=state, digest=hashlib.sha256(manifest).hexdigest())


def recorded_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 digests of the tensors in a checkpoint by their group, as it was written; {} where it has none."""
    try:
        digests = dict(read_own_json(read_regular(folder / _STATE))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {Path(name).stem: digest for name, digest in digests.items() if name.endswith(".safetensors")}


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` seems to be a checkpoint; only `read` tells whether it is intact."""
    return (folder / _STATE).is_file()


def find_checkpoints(folder: str | Path, key: str = "*") -> list[Path]:
    """All checkpoints of the run `key`, or of any, directly under `folder`, the newest (most images) first."""
    found = Path(folder).glob(f"{_PREFIX}{key}-{'[0-9]' * 12}")
    return sorted(found, key=_images, reverse=True)


def _images(path: Path) -> int:
    return images_at(path.name)


def checkpoint_in(path: Path, source: str) -> Path | None:
    """`path` if it is a checkpoint, or the newest sound one of the run whose folder it is; None where it is neither.

    source: what names the path, for the ConfigError of a run without a readable checkpoint.
    """
    if is_checkpoint(path):
        return path
    found = find_checkpoints(path)
    if not found:
        return None
    sound = newest_sound(found)
    if sound is None:
        raise ConfigError(f"{source} holds no readable checkpoint")
    return sound[0]


def newest_sound(paths: Iterable[Path]) -> tuple[Path, Checkpoint] | None:
    """The newest of these checkpoints that can be read, or None; each damaged one is logged."""
    for path in sorted(paths, key=_images, reverse=True):
        try:
            return path, read(path)
        except ConfigError as error:
            _LOG.warning("skipped: %s", error)
    return None


def prune(folder: str | Path, key: str, keep: int, written: str | None = None) -> None:
    """Delete all but the `keep` newest checkpoints of the run `key`, and leftovers of a killed writer.

    written: the name of the one just written, the newest that counts. Those of more images stay, and are none of the
    `keep`: they are damaged, or of another attempt, which may be the one that goes on. `put_back` must have saved what
    a writer had set aside.
    """
    found = find_checkpoints(folder, key)
    if written is not None:
        found = [path for path in found if path.name <= written]
    for old in [*found[keep:], *_half_written(folder, key)]:
        shutil.rmtree(old, ignore_errors=True)


def keep_only(path: Path, key: str) -> None:
    """Delete all checkpoints of the run `key` beside that at `path`, also those of more images, and leftovers."""
    found = find_checkpoints(path.parent, key)
    for other in [*(each for each in found if each != path), *_half_written(path.parent, key)]:
        shutil.rmtree(other, ignore_errors=True)


def _half_written(folder: str | Path, key: str) -> Iterator[Path]:
    return Path(folder).glob(f".{_PREFIX}{key}-{'[0-9]' * 12}.*.tmp")
