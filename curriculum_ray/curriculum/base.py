"""Base distributions over noise levels, each as a quantile function Q(u), u -> 0 clean and u -> 1 noise.

A base distribution lives in one domain: time (in [0, 1), 1 is noise), sigma (> 0, large is noise) or log-SNR
(any real number, low is noise). `NoiseLevels` maps that domain to a process's own levels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = [
    "EDM",
    "EDM2",
    "BaseSpec",
    "Beta",
    "LaplaceLogSnr",
    "LogNormalSigma",
    "LogitNormal",
    "Mode",
    "Speed",
    "Uniform",
    "default_base",
    "level_of",
    "u_of",
]

# Q of an unbounded distribution is read at most this close to u = 0 and u = 1, where it is infinite.
TAIL = 2.0**-53


class _Base(Spec, ABC):
    """A base distribution: `quantile` and its inverse `cdf`, in the domain that the class names."""

    domain: ClassVar[Literal["time", "sigma", "log_snr"]] = "time"

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Q(u): u in [0, 1) (float64, any shape; 1 is noise) to a value of the domain; rises with noise."""

    @abstractmethod
    def cdf(self, value: Tensor) -> Tensor:
        """The inverse of `quantile`: the probability of a level cleaner than `value`, in [0, 1]."""


class Uniform(_Base):
    """Every time is equally likely: DDPM (Ho et al. 2020, alg. 1). Not for sigmas."""

    kind: Literal["uniform"] = "uniform"
    """Every time is equally likely."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = u."""
        return u

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = v."""
        return value


class LogitNormal(_Base):
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


class Mode(_Base):
    """Heavy-tailed times around a mode (Esser et al. 2024, 2403.03206, §3.1). Not for sigmas."""

    kind: Literal["mode"] = "mode"
    """Heavy-tailed times around a mode."""
    # Outside of these bounds t is not monotone in u (ibid.).
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


class Beta(_Base):
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


class LaplaceLogSnr(_Base):
    """log-SNR ~ Laplace(loc, scale) (Hang et al. 2024, 2407.03297); applies to every process."""

    domain = "log_snr"
    kind: Literal["laplace_logsnr"] = "laplace_logsnr"
    """The log-SNR is Laplace distributed."""
    loc: float = 0.0
    """Centre of the log-SNR: above 0 for less noise."""
    scale: float = Field(default=0.5, gt=0)
    """Scale b of the Laplace distribution, in units of log-SNR."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = loc - scale·sign(u - ½)·(-ln(1 - 2|u - ½|)): falls with u, for low log-SNR is noise."""
        u = u.clamp(TAIL, 1 - TAIL)
        # 1 - 2|u - ½| written as 2·min(u, 1-u), which loses no digits in the tails.
        return self.loc + self.scale * torch.sign(u - 0.5) * torch.log(2 * torch.minimum(u, 1 - u))

    def cdf(self, value: Tensor) -> Tensor:
        """1 - F_Laplace(value): the probability of a higher log-SNR."""
        z = (value - self.loc) / self.scale
        tail = torch.exp(-z.abs()) / 2
        return torch.where(z >= 0, tail, 1 - tail)


class LogNormalSigma(_Base):
    """ln sigma ~ N(mean, std²): EDM (-1.2, 1.2) (Karras et al. 2022, table 1), EDM2 (-0.4, 1.0) (2024)."""

    domain = "sigma"
    kind: Literal["log_normal_sigma"] = "log_normal_sigma"
    """ln sigma is normally distributed; on timesteps and flow times sigma is the ratio of noise to data."""
    mean: float = -1.2
    """Mean of ln sigma: EDM -1.2, EDM2 -0.4; higher for more noise."""
    std: float = Field(default=1.2, gt=0)
    """Standard deviation of ln sigma: EDM 1.2, EDM2 1.0."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = exp(mean + std·Φ⁻¹(u))."""
        return torch.exp(self.mean + self.std * torch.special.ndtri(u.clamp(TAIL, 1 - TAIL)))

    def cdf(self, value: Tensor) -> Tensor:
        """F(sigma) = Φ((ln sigma - mean) / std)."""
        return torch.special.ndtr((value.log() - self.mean) / self.std)


class Speed(_Base):
    """Times below tau are k times as likely (SpeeD, Wang et al. 2024, 2405.17403). Not for sigmas."""

    kind: Literal["speed"] = "speed"
    """Times below tau are k times as likely as times above."""
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


BaseSpec = Annotated[
    Uniform | LogitNormal | Mode | Beta | LaplaceLogSnr | LogNormalSigma | Speed, Field(discriminator="kind")
]

EDM = LogNormalSigma(mean=-1.2, std=1.2)
EDM2 = LogNormalSigma(mean=-0.4, std=1.0)


def default_base(process: str) -> BaseSpec:
    """The base distribution of a kind of process where none is given: EDM's for edm, uniform times for the others."""
    return EDM if process == "edm" else Uniform()


def level_of(base: BaseSpec, u: Tensor, levels: NoiseLevels) -> Tensor:
    """Map u in [0, 1) (float64, any shape; 1 is noise) through Q to the process's native levels.

    Raises ValueError where the base distribution does not apply (a distribution over time on sigmas).
    """
    value = base.quantile(u)
    if base.domain == "time":
        return levels.from_time(value)
    return levels.from_sigma(value) if base.domain == "sigma" else levels.from_log_snr(value)


def u_of(base: BaseSpec, level: Tensor, levels: NoiseLevels) -> Tensor:
    """Map continuous native levels back to u in [0, 1], 1 is noise; the inverse of `level_of`."""
    if base.domain == "time":
        if levels.kind != "flow":
            raise ValueError(f"base {base.kind!r} is over time, which {levels.kind} levels do not have")
        return base.cdf(level)
    log_snr = levels.log_snr(level)
    return base.cdf(torch.exp(-log_snr / 2) if base.domain == "sigma" else log_snr)
