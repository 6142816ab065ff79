"""Settings of the held-out loss by noise level."""

from __future__ import annotations

from pydantic import Field

from curriculum_ray.config import Spec

__all__ = ["MEASUREMENTS", "HeldoutSpec"]

MEASUREMENTS = 8
"""How often a run is measured, unless `every_images` is set."""


class HeldoutSpec(Spec):
    """The held-out loss by noise level during training, which is the same with and without it."""

    levels: int = Field(default=16, ge=1, le=1000)
    """Number of noise levels: the midpoints of equal parts of u, in the process's default base distribution."""
    every_images: int | None = Field(default=None, ge=1)
    """Images between measurements, rounded up to whole steps; by default an eighth of the budget. One is at the end."""
    items: int | None = Field(default=None, ge=1)
    """Held-out items at each level; if not given, as many as cost about 1.5% of the training compute."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the noise: equal for all arms of a comparison, whatever their training seeds."""
