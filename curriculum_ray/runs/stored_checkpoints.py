"""Checkpoints in object storage: one exists once its manifest does, which is written last and deleted first."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from curriculum_ray.buckets.address import names
from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.files import alone
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import MANIFEST, Checkpoint

__all__ = ["bring", "fetch", "keep_only", "newest", "prune", "send", "stored"]

_LOG = logging.getLogger(__name__)

# Of a path: a study, its trials, a trial, a folder such as best, a checkpoint.
_NAMES = 5


def stored(folder: Bucket, key: str | None = None) -> list[str]:
    """Names of the checkpoints of the run `key`, or of any, directly in `folder`, the newest first, torn ones too."""
    names = [name for name in folder.folders() if checkpoints.is_checkpoint_name(name, key)]
    return sorted(names, key=checkpoints.images_at, reverse=True)


def send(path: Path, folder: Bucket) -> None:
    """Upload the checkpoint at `path` into `folder`, under its own name."""
    there = folder / path.name
    files = sorted(path.iterdir(), key=lambda file: (file.name == MANIFEST, file.name))
    if there.read(MANIFEST) is not None:
        # An earlier one of the same images: it must not seem whole while its files are replaced.
        there.remove(MANIFEST)
    for file in files:
        with open(file, "rb") as content:
            there.upload(content, file.name)


def prune(folder: Bucket, key: str, keep: int, sent: str | None = None) -> None:
    """Delete all but the `keep` newest whole checkpoints of the run `key`, and torn ones.

    sent: the name of the one just sent, the newest that counts; those of more images stay, as in `checkpoint.prune`.
    """
    kept = 0
    for name in stored(folder, key):
        if sent is not None and name > sent:
            continue
        if kept < keep and (folder / name).read(MANIFEST) is not None:
            kept += 1
            continue
        _remove(folder, name)


def keep_only(folder: Bucket, key: str, name: str) -> None:
    """Delete all checkpoints of the run `key` but the one of this name, also those of more images."""
    for other in stored(folder, key):
        if other != name:
            _remove(folder, other)


def _remove(folder: Bucket, name: str) -> None:
    (folder / name).remove(MANIFEST)
    folder.remove_folder(name)


def fetch(there: Bucket, path: Path) -> bool:
    """Bring the checkpoint at `there` to `path`, unless it is there; False where there is none or a torn one."""
    manifest = there.read(MANIFEST)
    if manifest is None:
        return False
    if _content(path / MANIFEST) == manifest:
        return True
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for file in _named(manifest):
            if not there.download(file, temporary / file):
                return False
        (temporary / MANIFEST).write_bytes(manifest)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def bring(there: Bucket, into: Path, source: str) -> Path:
    """Bring a checkpoint, or the newest sound one of the run whose folder it is, into the new folder `into`.

    source: what names it, for the ConfigError where it is neither, or cannot be read. The folders above it keep their
    names, by which commands know the run.
    """
    path = into.joinpath(*names(there.shown())[-_NAMES:])
    try:
        if there.read(MANIFEST) is not None:
            found = path if fetch(there, path) else None
        else:
            sound = newest(WorkingCopy(path, there), [path], None)
            found = None if sound is None else sound[0]
    except BucketError as error:
        raise ConfigError(f"{source}: {error}") from None
    if found is None:
        raise ConfigError(f"{source} is neither a whole checkpoint nor a run's folder with one")
    return found


def newest(copy: WorkingCopy, roots: Iterable[Path], key: str | None) -> tuple[Path, Checkpoint] | None:
    """The newest sound checkpoint in the bucket of the run `key`, or of any; None where there is none.

    roots: the folders of the working copy in whose place they are. One process of a machine at a time fetches, and the
    others find what it fetched. Raises BucketError.
    """
    found = [(name, root) for root in roots for name in stored(copy.there(root), key)]
    for name, root in sorted(found, key=lambda each: checkpoints.images_at(each[0]), reverse=True):
        path = root / name
        reason = "it is incomplete"
        for _ in range(2):  # a copy that is damaged here may be sound there
            with alone(root / ".fetch.lock"):
                if not fetch(copy.there(path), path):
                    break
            try:
                return path, checkpoints.read(path)
            except ConfigError as error:
                reason = str(error)
                shutil.rmtree(path, ignore_errors=True)
        _LOG.warning("skipped: checkpoint %s: %s", copy.shown(path), reason)
    return None


def _named(manifest: bytes) -> list[str]:
    """The other files of a checkpoint; none where the manifest is damaged, which reading it says."""
    try:
        names = list(read_own_json(manifest)["sha256"])
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if name != MANIFEST and "/" not in name and not name.startswith(".")]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
