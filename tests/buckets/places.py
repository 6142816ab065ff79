"""Buckets in memory, whose requests fail where a test asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curriculum_ray.buckets.store import Bucket

__all__ = ["bucket_in_memory", "failing"]

_NUMBERS = itertools.count()


def bucket_in_memory() -> Bucket:
    """An empty bucket of this process."""
    return Bucket(f"memory://bucket-{next(_NUMBERS)}/runs")


def failing(
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[[str, str], bool],
    error: str = "503",
    kind: type[Exception] = OSError,
) -> None:
    """From now on, requests fail for which `fails` is true, called with "read" or "write" and the object's path."""
    usual = MemoryFileSystem._open

    def opened(self: MemoryFileSystem, path: str, mode: str = "rb", **more: Any) -> Any:
        if fails("write" if "w" in mode else "read", path):
            raise kind(error)
        return usual(self, path, mode, **more)

    monkeypatch.setattr(MemoryFileSystem, "_open", opened)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
