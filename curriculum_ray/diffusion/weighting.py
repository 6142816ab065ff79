"""Fixed loss weightings by signal-to-noise ratio: min-SNR, soft-min-SNR and P2.

Min-SNR is defined on the error of x0; `to_noise` and `to_x0`, the logs of what makes a squared error of the
network's output one of the noise and one of x0 (`Process.error_scales`), carry it to any kind of prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from curriculum_ray.config import Spec

__all__ = [
    "P2",
    "FixedWeighting",
    "MinSNR",
    "NoWeighting",
    "SoftMinSNR",
    "Unweighted",
    "min_snr",
    "p2",
    "soft_min_snr",
]


class NoWeighting(Spec):
    """Each sample's squared error counts alike."""

    kind: Literal["none"] = "none"
    """The weighting: none."""


class MinSNR(Spec):
    """Min-SNR-gamma (Hang et al. 2023)."""

    kind: Literal["min_snr"] = "min_snr"
    """The weighting: min_snr."""

    gamma: float = Field(default=5.0, gt=0)
    """The SNR at which the weight of clean levels is cut."""


class SoftMinSNR(Spec):
    """Soft-min-SNR (Crowson et al. 2024): min-SNR with a smooth cut."""

    kind: Literal["soft_min_snr"] = "soft_min_snr"
    """The weighting: soft_min_snr."""

    gamma: float = Field(default=4.0, gt=0)
    """The SNR around which the weight of clean levels is cut."""


class P2(Spec):
    """Perception-prioritised weighting (Choi et al. 2022), for epsilon prediction only."""

    kind: Literal["p2"] = "p2"
    """The weighting: p2."""

    gamma: float = Field(default=1.0, ge=0)
    """How strongly clean levels are weighted down; 0 is no weighting."""

    k: float = Field(default=1.0, gt=0)
    """The SNR below which the weight no longer grows."""


def min_snr(to_noise: Tensor, to_x0: Tensor, gamma: float) -> Tensor:
    """Weight min(SNR, γ) on the error of x0: min(SNR, γ)/SNR on epsilon's, min(SNR, γ)/(SNR+1) on v's.

    Hang et al. 2023, §3.4. Finite at SNR = 0.
    """
    return torch.minimum(to_noise, to_x0 + math.log(gamma)).exp()


def soft_min_snr(to_noise: Tensor, to_x0: Tensor, gamma: float) -> Tensor:
    """Weight SNR·γ/(SNR + γ) on the error of x0: γ/(SNR + γ) on epsilon's. Finite at SNR = 0.

    Crowson et al. 2024, §4.4 with γ = 4, i.e. 1/sigma_data² for sigma_data = 1/2.
    """
    return (-torch.logaddexp(-to_noise, -to_x0 - math.log(gamma))).exp()


def p2(log_snr: Tensor, gamma: float, k: float) -> Tensor:
    """Weight 1/(k + SNR)^γ on the error of epsilon (Choi et al. 2022, Eq. 8). Finite at SNR = 0."""
    return torch.logaddexp(log_snr, torch.full_like(log_snr, math.log(k))).mul(-gamma).exp()


class Unweighted(nn.Module):
    """The loss is the squared error itself."""

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,) -> (B,)."""
        return raw


class FixedWeighting(nn.Module):
    """Multiply each squared error by a fixed function of its log-SNR."""

    def __init__(self, weight: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,), low is noise -> (B,)."""
        return self.weight(log_snr) * raw
