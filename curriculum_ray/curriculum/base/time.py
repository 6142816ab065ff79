"""Base distributions over times in [0, 1), 1 is noise: for timesteps and flow matching, not for sigmas."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from curriculum_ray.curriculum.base.core import TAIL, TimeQuantile

__all__ = ["Asymmetric", "Beta", "CosMap", "LogitNormal", "Mode", "Normal", "Uniform"]


class Uniform(TimeQuantile):
    """Every time is equally likely: DDPM (Ho et al. 2020, alg. 1). Not for sigmas."""

    kind: Literal["uniform"] = "uniform"
    """Every time is equally likely."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = u."""
        return u

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = v."""
        return value


class LogitNormal(TimeQuantile):
    """Times t = sigmoid(z), z ~ N(mean, std²) (Esser et al. 2024, 2403.03206, §3.1). Not for sigmas."""

    kind: Literal["logit_normal"] = "logit_normal"
    """Times t = sigmoid(z) with normal z."""
    mean: float = 0.0
    """Mean of z: above 0 for more noise."""
    std: float = Field(default=1.0, gt=0)
    """Standard deviation of z."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = sigmoid(mean + std·Φ⁻¹(u))."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.clamp(TAIL, 1 - TAIL)))

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = Φ((logit(v) - mean) / std)."""
        return torch.special.ndtr((torch.logit(value) - self.mean) / self.std)


class Normal(TimeQuantile):
    """Times t ~ N(mean, std²) cut to [0, 1): the form in which CLTS ends (see `Changing`). Not for sigmas."""

    kind: Literal["normal"] = "normal"
    """Normally distributed times, cut to [0, 1)."""
    mean: float = 0.3
    """Centre of the times: timestep 300 of 1,000 for CLTS in SpeeD's released comparison."""
    std: float = Field(default=0.3, gt=0)
    """Standard deviation before the cut, in times. The default is ours, see `Changing`."""

    @model_validator(mode="after")
    def _check(self) -> Normal:
        if self._mass[1] < 1e-3:
            raise ValueError(f"less than 0.1% of N({self.mean:g}, {self.std:g}²) lies in [0, 1)")
        return self

    @property
    def _mass(self) -> tuple[float, float]:
        """Φ at t = 0, and how much of the normal distribution lies in [0, 1)."""
        low, high = (0.5 * math.erfc((self.mean - t) / (self.std * math.sqrt(2))) for t in (0.0, 1.0))
        return low, high - low

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = mean + std·Φ⁻¹(Φ(z_0) + u·(Φ(z_1) - Φ(z_0))), z_t = (t - mean) / std."""
        low, mass = self._mass
        z = torch.special.ndtri((low + u * mass).clamp(TAIL, 1 - TAIL))
        return (self.mean + self.std * z).clamp(0, 1 - TAIL)

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = (Φ(z_v) - Φ(z_0)) / (Φ(z_1) - Φ(z_0))."""
        low, mass = self._mass
        return ((torch.special.ndtr((value - self.mean) / self.std) - low) / mass).clamp(0, 1)


class Mode(TimeQuantile):
    """Heavy-tailed times around a mode (Esser et al. 2024, 2403.03206, §3.1). Not for sigmas."""

    kind: Literal["mode"] = "mode"
    """Heavy-tailed times around a mode."""
    # Outside these bounds t is not monotone in u (ibid.).
    scale: float = Field(default=1.29, ge=-1.0, le=2 / (math.pi - 2))
    """s: above 0 for more of the middle, below 0 for more of the ends; within [-1, 1.7519]."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = 1 - w - s·(cos²(πw/2) - 1 + w), w = 1 - u: the paper's u runs from noise to data."""
        w = 1 - u
        return (1 - w - self.scale * (torch.cos(math.pi * w / 2) ** 2 - 1 + w)).clamp(0, 1)

    def cdf(self, value: Tensor) -> Tensor:
        """The u with Q(u) = v, by bisection to 2⁻⁶⁰: Q has no closed inverse."""
        low, high = torch.zeros_like(value), torch.ones_like(value)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.quantile(middle) >= value
            high, low = torch.where(above, middle, high), torch.where(above, low, middle)
        return high


class CosMap(TimeQuantile):
    """Flow times whose log-SNR is distributed as with the cosine schedule (Esser et al. 2024, 2403.03206, §3.1).

    Density π(t) = 2 / (π - 2πt + 2πt²). Not for sigmas.
    """

    kind: Literal["cosmap"] = "cosmap"
    """Flow times with the log-SNRs of the cosine schedule."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = 1 - 1 / (tan(πu/2) + 1), written as sin / (sin + cos)."""
        angle = u * (math.pi / 2)
        return angle.sin() / (angle.sin() + angle.cos())

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = (2/π)·arctan(v / (1 - v))."""
        return torch.atan2(value, 1 - value) * (2 / math.pi)


class Beta(TimeQuantile):
    """Times t ~ Beta(alpha, 1), density alpha·t^(alpha-1) (B-TTDM, Zheng et al. 2024). Not for sigmas."""

    kind: Literal["beta"] = "beta"
    """Times t ~ Beta(alpha, 1)."""
    alpha: float = Field(default=0.8, gt=0)
    """Below 1 for more clean times, above 1 for more noise."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = u^(1/alpha)."""
        return u ** (1 / self.alpha)

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = v^alpha."""
        return value**self.alpha


class Asymmetric(TimeQuantile):
    """Times below tau are k times as likely: SpeeD's asymmetric sampling alone (Wang et al. 2024, 2405.17403).

    The whole method, with its pairs and its weights, is `Speed`. Not for sigmas.
    """

    kind: Literal["asymmetric"] = "asymmetric"
    """Times below tau are k times as likely as times above; one part of SpeeD."""
    k: float = Field(default=5.0, gt=0)
    """Density below tau relative to the density above."""
    tau: float = Field(default=0.7, gt=0, lt=1)
    """The border as a time in (0, 1), 1 is noise: the paper's timestep 700 of 1,000 is 0.7."""

    @property
    def _below(self) -> float:
        """P(t < tau) = k·tau / (k·tau + 1 - tau)."""
        return self.k * self.tau / (self.k * self.tau + 1 - self.tau)

    def quantile(self, u: Tensor) -> Tensor:
        """Piecewise linear through (0, 0), (P(t < tau), tau), (1, 1)."""
        tau, below = self.tau, self._below
        return torch.where(u < below, u * tau / below, tau + (u - below) * (1 - tau) / (1 - below))

    def cdf(self, value: Tensor) -> Tensor:
        """Piecewise linear through (0, 0), (tau, P(t < tau)), (1, 1)."""
        tau, below = self.tau, self._below
        return torch.where(value < tau, value * below / tau, below + (value - tau) * (1 - below) / (1 - tau))
