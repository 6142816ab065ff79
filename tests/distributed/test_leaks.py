"""What a worker holds is measured against what its first run left."""

from __future__ import annotations

import mmap

import pytest

from curriculum_ray.distributed import leaks
from curriculum_ray.distributed.leaks import MemoryWatch

GIB = 2**30


def test_growth_beyond_the_limit_counts_from_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([5 * GIB, 4 * GIB, 7 * GIB, 7 * GIB + 1])
    monkeypatch.setattr(leaks, "held", lambda: next(seen))
    leaked = MemoryWatch(2.0)
    assert [leaked() for _ in range(4)] == [False, False, False, True]


def test_held_grows_with_what_is_held() -> None:
    before = leaks.held()
    # Pages of its own: what is allocated otherwise may lie in memory that earlier tests left.
    with mmap.mmap(-1, 64 * 2**20) as kept:
        kept.write(b"1" * len(kept))
        assert leaks.held() - before > 32 * 2**20
