"""Exponential moving average of weights, by half-life in images (Karras et al. 2022, App. F.2)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field
from torch import nn

from curriculum_ray.config import Spec
from curriculum_ray.training.ema_posthoc import PowerEmaSpec
from curriculum_ray.training.parallel import local

__all__ = ["Ema", "EmaSpec", "ema_decay"]


class EmaSpec(Spec):
    """Exponential moving average of the weights, by half-life as in EDM (Karras et al. 2022, App. F.2)."""

    half_life_images: int = Field(default=10_000, ge=1)
    """Images after which a weight's share of the average has halved."""
    ramp_up: float = Field(default=0.05, gt=0, le=1)
    """The half-life is at most this share of the images seen, so that early averages forget the initial weights."""
    power: PowerEmaSpec | None = None
    """Power-function averages beside this one, or null for none."""


def ema_decay(spec: EmaSpec, images: int, batch_size: int) -> float:
    """The share of the old average kept in a step of `batch_size` images that brings the count to `images`, in [0, 1).

    2^(-batch / min(half_life, ramp_up * images)).
    """
    half_life = min(spec.half_life_images, spec.ramp_up * images)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


class Ema:
    """A frozen copy of a model whose weights follow it; buffers are copied.

    shared: weights that never change, which both hold.
    """

    def __init__(self, model: nn.Module, spec: EmaSpec, shared: Iterable[nn.Parameter] = ()) -> None:
        self.spec = spec
        kept: dict[int, Any] = {id(value): value for value in shared}
        self.model = copy.deepcopy(model, kept).eval().requires_grad_(False)
        self.follow(model)

    def follow(self, model: nn.Module) -> None:
        """Average the weights of `model` from now on; call it again when either side has been sharded."""
        both = zip(self.model.parameters(), model.parameters(), strict=True)
        pairs = [(average, source) for average, source in both if average is not source]
        self._averages: list[torch.Tensor] = [local(average) for average, _ in pairs]
        self._sources: list[torch.Tensor] = [local(source.detach()) for _, source in pairs]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, images: int, batch_size: int) -> None:
        """Move the average by one step of `batch_size` images, after `images` images in all.

        weight' = lerp(source, weight, ema_decay).
        """
        decay = ema_decay(self.spec, images, batch_size)
        torch._foreach_lerp_(self._averages, self._sources, 1.0 - decay)
        for average, source in self._buffers:
            average.copy_(source)
