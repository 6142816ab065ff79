"""The learning rate as a function of images seen: a linear warm-up, then constant, cosine, linear or 1/sqrt."""

from __future__ import annotations

import math

from curriculum_ray.training.config import OptimizerSpec

__all__ = ["learning_rate"]


def learning_rate(spec: OptimizerSpec, images: int, total_images: int) -> float:
    """The rate of the update that brings the count to `images`, of `total_images` in all.

    warm-up: min(1, images / warmup_images). cosine: f + (1 - f)(1 + cos(pi p))/2 (Loshchilov & Hutter 2017, Eq. 5)
    and linear: 1 - (1 - f) p, with p the share of the time after the warm-up and f = final_share.
    inverse_sqrt: 1 / sqrt(max(images / reference_images, 1)) (Karras et al. 2024, Eq. 67).
    """
    warmup = min(1.0, images / spec.warmup_images) if spec.warmup_images else 1.0
    return spec.learning_rate * warmup * _decay(spec, images, total_images)


def _decay(spec: OptimizerSpec, images: int, total_images: int) -> float:
    if spec.schedule == "constant":
        return 1.0
    if spec.schedule == "inverse_sqrt":
        assert spec.reference_images is not None
        return 1.0 / math.sqrt(max(images / spec.reference_images, 1.0))
    passed = max(images - spec.warmup_images, 0) / max(total_images - spec.warmup_images, 1)
    share = (1.0 + math.cos(math.pi * passed)) / 2 if spec.schedule == "cosine" else 1.0 - passed
    return spec.final_share + (1.0 - spec.final_share) * share
