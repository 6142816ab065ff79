"""The marginals q_t of a diffusion process whose data are a finite set or a Gaussian mixture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from curriculum_ray.curriculum.base import BaseSpec, Uniform, level_of
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["Mixture", "level_scales"]


@dataclass(frozen=True)
class Mixture:
    """A mixture of isotropic Gaussians; with zero variances it is the empirical distribution of its centres.

    Diffused to a level with signal s and noise σ it is again a mixture, with centres s·m_i and variances
    s²·c_i + σ², so that its density is known exactly at every noise level.

    centres (Tensor): m_i, floating point, shape (N, D); a view of what was given, whatever its float type.
    variances (Tensor): c_i ≥ 0, float64, shape (N,).
    log_weights (Tensor): logarithms of weights that sum to 1, float64, shape (N,).
    """

    centres: Tensor
    variances: Tensor
    log_weights: Tensor

    @classmethod
    def of(cls, centres: Tensor, variances: Tensor | None = None, weights: Tensor | None = None) -> Mixture:
        """Build from centres (N, …), optional variances (N,) and optional positive weights (N,) of any sum.

        Raises ValueError for fewer than two centres, wrong lengths, or values out of range.
        """
        count = len(centres)
        if count < 2 or not centres.is_floating_point():
            raise ValueError(f"centres must be two or more, floating point, but got {count} {centres.dtype}")
        variances = torch.zeros(count) if variances is None else variances
        weights = torch.ones(count) if weights is None else weights
        for name, value in (("variances", variances), ("weights", weights)):
            if value.shape != (count,):
                raise ValueError(f"{name} must have shape ({count},), but got {tuple(value.shape)}")
        if not bool((variances >= 0).all()) or not bool((weights > 0).all()):
            raise ValueError("variances must be at least 0 and weights positive")
        weights = weights.double()
        return cls(centres.reshape(count, -1), variances.double(), (weights / weights.sum()).log())

    @property
    def dim(self) -> int:
        """Numbers per centre, D."""
        return self.centres.shape[1]


def level_scales(levels: NoiseLevels, base: BaseSpec, count: int = 1000) -> tuple[Tensor, Tensor, BaseSpec]:
    """Signal s and noise σ of q, the law of s·x_0 + σ·ε, at T levels, clean to noisy; float64 of shape (T,).

    Discrete processes: their T timesteps, whatever `base` says. Continuous ones: `count` equally likely
    levels of `base`, at the middles of equal cells of u. The third value is the base distribution in
    whose u these are u = t/T. Raises ValueError where `base` does not apply.
    """
    if levels.count is not None:
        log_snr = levels.log_snr(torch.arange(levels.count)).double()
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt(), Uniform()
    level = level_of(base, (torch.arange(count, dtype=torch.float64) + 0.5) / count, levels)
    return (torch.ones_like(level) if levels.kind == "sigma" else 1 - level), level, base
