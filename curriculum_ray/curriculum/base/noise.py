"""Base distributions over sigma or log-SNR: for every process."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from curriculum_ray.curriculum.base.core import TAIL, Quantile

__all__ = ["EDM", "EDM2", "LaplaceLogSnr", "LogNormalSigma"]


class LaplaceLogSnr(Quantile):
    """log-SNR ~ Laplace(loc, scale) (Hang et al. 2024, 2407.03297); applies to every process."""

    domain = "log_snr"
    kind: Literal["laplace_logsnr"] = "laplace_logsnr"
    """The log-SNR is Laplace distributed."""
    loc: float = 0.0
    """Centre of the log-SNR: above 0 for less noise."""
    scale: float = Field(default=0.5, gt=0)
    """Scale b of the Laplace distribution, in units of log-SNR."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = loc - scale·sign(u - ½)·(-ln(1 - 2|u - ½|)): falls with u, since a low log-SNR is noise."""
        u = u.clamp(TAIL, 1 - TAIL)
        # 1 - 2|u - ½| written as 2·min(u, 1-u), which loses no digits in the tails.
        return self.loc + self.scale * torch.sign(u - 0.5) * torch.log(2 * torch.minimum(u, 1 - u))

    def cdf(self, value: Tensor) -> Tensor:
        """1 - F_Laplace(value): the probability of a higher log-SNR."""
        z = (value - self.loc) / self.scale
        tail = torch.exp(-z.abs()) / 2
        return torch.where(z >= 0, tail, 1 - tail)


class LogNormalSigma(Quantile):
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


EDM = LogNormalSigma(mean=-1.2, std=1.2)
EDM2 = LogNormalSigma(mean=-0.4, std=1.0)
