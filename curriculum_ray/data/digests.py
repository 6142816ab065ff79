"""Digests of files: of a few blocks, which is fast for any size, and of all bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

__all__ = ["Stamp", "same_content", "sampled_digests"]

Stamp = tuple[str, int, int]
"""A file's path, its size in bytes and when it was changed, in nanoseconds."""

_END, _BLOCK, _BLOCKS = 64 * 1024, 4096, 4


def sampled_digests(paths: Sequence[str]) -> list[bytes]:
    """A digest of both ends of each file, where its headers and footers are, and of blocks evenly between."""
    stamps = [(path, status.st_size, status.st_mtime_ns) for path in paths for status in [os.stat(path)]]
    # Threads, because each read waits for a disk or a server.
    with ThreadPoolExecutor(16) as readers:
        return list(readers.map(_sampled, stamps))


def same_content(stamps: Sequence[Stamp]) -> list[tuple[str, str]]:
    """Pairs of an earlier file and a later one with the same bytes.

    Only files of one size whose sampled blocks are equal are read whole.
    """
    found: list[tuple[str, str]] = []
    for alike in _groups(stamps, lambda stamp: stamp[1]):
        for sampled in _groups(alike, _sampled):
            for first, *others in _groups(sampled, _whole):
                found += [(first[0], other[0]) for other in others]
    order = {stamp[0]: place for place, stamp in enumerate(stamps)}
    return sorted(found, key=lambda pair: order[pair[1]])


def _groups(stamps: Iterable[Stamp], key: Callable[[Stamp], object]) -> list[list[Stamp]]:
    """Groups of two or more with an equal `key`."""
    found: dict[object, list[Stamp]] = {}
    for stamp in stamps:
        found.setdefault(key(stamp), []).append(stamp)
    return [group for group in found.values() if len(group) > 1]


@lru_cache(maxsize=100_000)
def _sampled(stamp: Stamp) -> bytes:
    path, size, _ = stamp
    digest = hashlib.sha256()
    between = [size * part // (_BLOCKS + 1) for part in range(1, _BLOCKS + 1)]
    with open(path, "rb") as file:
        for start, length in [
            (0, _END),
            *((start, _BLOCK) for start in between),
            (max(0, size - _END), _END),
        ]:
            file.seek(start)
            digest.update(file.read(length))
    return digest.digest()


@lru_cache(maxsize=100_000)
def _whole(stamp: Stamp) -> bytes:
    with open(stamp[0], "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
