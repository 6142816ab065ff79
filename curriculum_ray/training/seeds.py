"""Random numbers as a function of (seed, rank, images), so that a resumed run repeats the uninterrupted one."""

from __future__ import annotations

import torch

from curriculum_ray.data.order import mix

__all__ = ["mix", "seed_step"]


def seed_step(seed: int, rank: int, images: int) -> None:
    """Seed torch's default generators for the step that starts after `images` images."""
    torch.manual_seed(mix(seed, rank, images))
