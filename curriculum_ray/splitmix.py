"""SplitMix64 (Steele, Lea & Flood 2014, Fig. 17): whole numbers into random ones, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

__all__ = ["mix", "mix_each", "splitmix64"]

_MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The number in [0, 2^64) that the generator draws from `state`, which is taken modulo 2^64."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def mix(*values: int) -> int:
    """Hash integers, e.g. (seed, rank, images), into a seed in [0, 2^63)."""
    state = 0
    for value in values:
        state = splitmix64(state + value)
    return state >> 1


def mix_each(leading: Sequence[int], last: Sequence[int] | range) -> NDArray[numpy.int64]:
    """`mix(*leading, value)` for each value in `last`, not negative; int64, same length."""
    state = 0
    for value in leading:
        state = splitmix64(state + value)
    # Arithmetic on arrays of uint64 is modulo 2^64.
    drawn = numpy.asarray(last, dtype=numpy.uint64) + numpy.uint64(state) + numpy.uint64(0x9E3779B97F4A7C15)
    drawn = (drawn ^ (drawn >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    drawn = (drawn ^ (drawn >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return ((drawn ^ (drawn >> numpy.uint64(31))) >> numpy.uint64(1)).astype(numpy.int64)
