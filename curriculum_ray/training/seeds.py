"""Random numbers as a function of (seed, rank, images), so that a resumed run repeats the uninterrupted one."""

from __future__ import annotations

import torch

__all__ = ["mix", "seed_step"]

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Hash integers into [0, 2^63), by the finaliser of SplitMix64 (Steele, Lea & Flood 2014, Fig. 17)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seed_step(seed: int, rank: int, images: int) -> None:
    """Seed torch's default generators for the step that starts after `images` images."""
    torch.manual_seed(mix(seed, rank, images))
