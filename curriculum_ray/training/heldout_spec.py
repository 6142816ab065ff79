"""Settings of the held-out loss by noise level."""

from __future__ import annotations

from pydantic import Field

from curriculum_ray.config import Spec

__all__ = ["MEASUREMENTS", "HeldoutSpec"]

MEASUREMENTS = 8
"""How often a run is measured unless `every_images` says otherwise."""


class HeldoutSpec(Spec):
    """The held-out loss by noise level on the way; training goes on as it would without it."""

    levels: int = Field(default=16, ge=1, le=1000)
    """Noise levels: the middles of so many even parts of u, in the process's default base distribution."""
    every_images: int | None = Field(default=None, ge=1)
    """Images between measurements, rounded up to whole steps; an eighth of the budget if not given. The end is one."""
    items: int | None = Field(default=None, ge=1)
    """Held-out items at each level; if not given, as many as cost about 1.5% of the training."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the noise: equal for all arms of a comparison, whatever their training seeds."""
