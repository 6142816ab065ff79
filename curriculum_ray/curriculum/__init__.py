"""Timestep curricula: which noise levels to train when. Torch only; usable in anybody's training loop."""

from curriculum_ray.curriculum.curve import DifficultyCurve

__all__ = ["DifficultyCurve"]
