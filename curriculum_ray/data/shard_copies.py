"""Shards in object storage: what lies there, and copies on this machine's disk, made when a shard is first read."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.address import is_address, names
from curriculum_ray.buckets.copy import STAGE_VARIABLE, stage
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown
from curriculum_ray.data.digests import Stamp
from curriculum_ray.data.summary import LeftOutTally
from curriculum_ray.data.walk import Walk, is_wanted, junk_within, stays_below
from curriculum_ray.files import alone

__all__ = ["copy_here", "copy_shards", "folder_of", "list_shards"]

_LOG = logging.getLogger(__name__)

_AT_A_TIME = 8
_SAID_BYTES = 100_000_000
"""Copies of more are worth a line, because a person waits for them."""


def folder_of(name: str) -> Path:
    """The folder of the data `name` (`data.name`) on this machine: of data at an address, that of their copies."""
    if not is_address(name):
        return Path(name)
    kept, base = _parts(name)
    return stage() / kept / base


def list_shards(address: str, wanted: Collection[str]) -> tuple[Walk, dict[Path, Stamp]]:
    """The files at an address, at the paths of their copies, which may not be there, and each one's stamp there.

    wanted: see `find_files`. ConfigError, one line, where they cannot be listed, or a copy would lie elsewhere.
    """
    root = folder_of(address)
    try:
        found = Bucket(address).stamps()
    except BucketError as error:
        raise ConfigError(f"data.name: {error}") from None
    tally = LeftOutTally()
    files = []
    for name in sorted(found):
        _check_name(address, name)
        if kind := junk_within(name):
            tally.add(kind, name, matters=is_wanted(name, wanted))
        else:
            files.append(root / name)
    stamps = {path: (str(path), *found[path.relative_to(root).as_posix()]) for path in files}
    return Walk(tuple(files), tally.found), stamps


def copy_shards(name: str, stamps: Sequence[Stamp]) -> None:
    """Copy the shards of the data `name` to this machine's disk, those that are not there; raises ConfigError."""
    if not is_address(name):
        return
    root = folder_of(name)
    missing = [each for each in stamps if _local(Path(each[0])) != each[1:]]
    if not missing:
        return
    size = sum(size for _, size, _ in missing)
    level = logging.WARNING if size > _SAID_BYTES else logging.INFO
    _LOG.log(
        level, "copying %d shards, %.2f GB, of %s to %s", len(missing), size / 1e9, presentable(name), root
    )
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(
            lambda each: _copy(name, Path(each[0]).relative_to(root).as_posix(), each[1:]), missing
        ):
            pass


def copy_here(name: str, path: str) -> str:
    """The path on this machine of a file of the data `name`; of data at an address, it is copied or renewed if need be.

    path: as any machine of the run has it. Raises ConfigError.
    """
    if not is_address(name):
        return path
    relative = path.rpartition(f"/{'/'.join(_parts(name))}/")[2]
    _check_name(name, relative)
    try:
        there = Bucket(name).stamp(relative)
    except BucketError as error:
        raise ConfigError(f"data.name: {error}") from None
    if there is None:
        raise ConfigError(f"data.name must hold {relative}, but {presentable(name)} has no such file")
    return str(_copy(name, relative, there))


def _check_name(address: str, name: str) -> None:
    """Refuse a name by which a copy would lie outside its folder: others may write to the bucket."""
    if not stays_below(name):
        raise ConfigError(
            f"data.name must hold files whose names have no part that is empty, . or .., "
            f"but {presentable(address)} has {shown(name)}"
        )


def _parts(address: str) -> tuple[str, str]:
    """The names of the two folders of the copies: all that is kept of an address, and its last name."""
    digest = hashlib.sha256(presentable(address).rstrip("/").encode()).hexdigest()
    return f"data-{digest[:12]}", names(address)[-1]


def _copy(address: str, name: str, there: tuple[int, int]) -> Path:
    """Copy a file, unless it is there; one process of the machine does, and the others wait."""
    path = folder_of(address) / name
    if _local(path) == there:
        return path
    with alone(path.with_name(f".{path.name}.lock")):
        if _local(path) == there:
            return path
        if shutil.disk_usage(path.parent).free < there[0]:
            raise ConfigError(
                f"{name} of {presentable(address)}, {there[0] / 1e9:.2f} GB, does not fit on the disk of "
                f"{path.parent}: set {STAGE_VARIABLE} to another folder for copies"
            )
        try:
            copied = Bucket(address).download(name, path)
        except BucketError as error:
            raise ConfigError(f"data.name: {error}") from None
        if not copied:
            raise ConfigError(
                f"data.name must hold {name} until it is copied, but {presentable(address)} has no such file any more"
            )
        # By this a copy is known to be that of the file that is there.
        os.utime(path, ns=(there[1], there[1]))
    return path


def _local(path: Path) -> tuple[int, int] | None:
    """The size of a copy and when its original was written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
