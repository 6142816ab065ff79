"""The noise levels that a run trains but its sampler never visits, because sampling starts at less noise."""

from __future__ import annotations

import torch

from curriculum_ray.curriculum.base import BaseSpec, Changing, level_of
from curriculum_ray.data import is_image
from curriculum_ray.diffusion import build_process
from curriculum_ray.training.config import TrainConfig

__all__ = ["never_visited", "unvisited_line"]

_EVEN = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
_NAMES = {"timestep": "t", "sigma": "sigma", "flow": "t"}


def never_visited(config: TrainConfig, shape: tuple[int, ...]) -> float:
    """Return the share of u, in [0, 1], whose noise levels are noisier than the one at which sampling starts.

    This is the share of training spent there by the schedule's base distribution, over the whole budget if
    the base changes. shape: that of one item, which decides whether samples are clipped. Levels between those
    of two steps count as visited. Computed on 10,000 even quantiles of the base.
    """
    process = build_process(config.process)
    start = process.noisiest(clip=is_image(shape))

    def noisier(base: BaseSpec) -> float:
        return float((level_of(base, _EVEN, process.levels) > start).double().mean())

    base = config.schedule.base
    if not isinstance(base, Changing):
        return noisier(base)
    at, blend = base.span(config.total_images)
    images = _EVEN * config.total_images
    later = float(((images - at) / blend).clamp(0, 1).mean() if blend else (images >= at).double().mean())
    return (1 - later) * noisier(base.first) + later * noisier(base.then)


def unvisited_line(config: TrainConfig, shape: tuple[int, ...]) -> str | None:
    """Describe that share in one line, or return None if it is less than a thousandth of the training."""
    share = never_visited(config, shape)
    if share < 1e-3:
        return None
    process = build_process(config.process)
    start = f"{_NAMES[process.levels.kind]} = {process.noisiest(clip=is_image(shape)):g}"
    remedy = ": process.prediction v visits all" if process.name == "ddpm-epsilon" else ""
    return f"sampling starts at {start}, and {share:.1%} of the training draws are noisier, never visited{remedy}"
