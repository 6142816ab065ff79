"""Fixed loss weightings by SNR: min-SNR, soft-min-SNR, P2, debiased estimation and those of SD3.

A paper defines its weighting on the squared error of x0, of the noise or of flow matching's velocity, but the
network may predict another of them. `Process.error_scales` gives the logs of `to_noise` and `to_x0`, the
factors from a squared error of the network's output to one of the noise and one of x0. `to_velocity` follows
from both, and `weight_of` is the only place that combines formula and factor. So a weighting means the same
loss, whatever is predicted.

At SNR = 0 a weight is the limit of its formula. Where that is infinite, and at the clean end, the ratio of
noise and signal is limited to 1,000 (`FARTHEST`), so that every weight is finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from curriculum_ray.config import Spec

__all__ = [
    "FARTHEST",
    "P2",
    "CosMap",
    "DebiasedEstimation",
    "FixedSpec",
    "FixedWeighting",
    "MinSNR",
    "NoWeighting",
    "SigmaSqrt",
    "SoftMinSNR",
    "Unweighted",
    "cosmap",
    "debiased_estimation",
    "min_snr",
    "p2",
    "sigma_sqrt",
    "soft_min_snr",
    "to_velocity",
    "weight_of",
]

FARTHEST = 2 * math.log(1000)
"""The |log-SNR| beyond which no weight grows: t = 0.001, the cleanest of diffusers' 1,000 flow times."""


class NoWeighting(Spec):
    """All squared errors have equal weight."""

    kind: Literal["none"] = "none"
    """The weighting: none."""


class MinSNR(Spec):
    """Min-SNR-gamma (Hang et al. 2023)."""

    kind: Literal["min_snr"] = "min_snr"
    """The weighting: min_snr."""

    gamma: float = Field(default=5.0, gt=0)
    """The SNR above which the weight is clipped."""


class SoftMinSNR(Spec):
    """Soft-min-SNR (Crowson et al. 2024): min-SNR with a smooth limit."""

    kind: Literal["soft_min_snr"] = "soft_min_snr"
    """The weighting: soft_min_snr."""

    gamma: float | None = Field(default=None, gt=0)
    """The SNR around which the weight levels off; by default 1/sigma_data², or 4 without a sigma_data."""


class P2(Spec):
    """Perception-prioritised weighting (Choi et al. 2022)."""

    kind: Literal["p2"] = "p2"
    """The weighting: p2."""

    gamma: float = Field(default=1.0, ge=0)
    """How strongly clean levels are down-weighted; 0 weights all errors of the noise equally."""

    k: float = Field(default=1.0, gt=0)
    """The SNR below which the weight no longer grows."""


class DebiasedEstimation(Spec):
    """Debiased estimation (Yu et al. 2024): more weight on noisy levels, which amplify errors in x0."""

    kind: Literal["debiased"] = "debiased"
    """The weighting: debiased."""


class SigmaSqrt(Spec):
    """Flow matching's velocity weighted by 1/t², as sigma_sqrt in diffusers; other processes by noise level."""

    kind: Literal["sigma_sqrt"] = "sigma_sqrt"
    """The weighting: sigma_sqrt."""


class CosMap(Spec):
    """Flow matching's velocity weighted by CosMap (Esser et al. 2024); other processes by noise level."""

    kind: Literal["cosmap"] = "cosmap"
    """The weighting: cosmap."""


FixedSpec = MinSNR | SoftMinSNR | P2 | DebiasedEstimation | SigmaSqrt | CosMap
"""The weightings that are fixed functions of the log-SNR."""


def min_snr(to_noise: Tensor, to_x0: Tensor, gamma: float) -> Tensor:
    """Weight min(SNR, γ) on the error of x0: min(SNR, γ)/SNR on epsilon's, min(SNR, γ)/(SNR+1) on v's.

    Hang et al. 2023, §3.4. The limits at SNR = 0 are 1 on epsilon's error and 0 on those of x0 and v. The
    loss, SNR times the squared error of x0, vanishes there for each: pure noise contains nothing of x0 to
    learn. The paper's released code gives the last timestep of a zero-terminal schedule the weight 1 for x0
    and v too, with linear betas 2e8 times that of its neighbour; diffusers uses the limits.
    """
    return torch.minimum(to_noise, to_x0 + math.log(gamma)).exp()


def soft_min_snr(to_noise: Tensor, to_x0: Tensor, gamma: float) -> Tensor:
    """Weight SNR·γ/(SNR + γ) on the error of x0: γ/(SNR + γ) on epsilon's. Limits at SNR = 0 as in `min_snr`.

    Crowson et al. 2024, §4.4, where γ = 1/sigma_data² (4 for sigma_data = 1/2): on the output of EDM's
    network the weight is then (sigma·sigma_data)² / (sigma² + sigma_data²)², as in k-diffusion.
    """
    return (-torch.logaddexp(-to_noise, -to_x0 - math.log(gamma))).exp()


def p2(log_snr: Tensor, gamma: float, k: float) -> Tensor:
    """Weight 1/(k + SNR)^γ on the error of epsilon (Choi et al. 2022, Eq. 8); 1/k^γ at SNR = 0."""
    return torch.logaddexp(log_snr, torch.full_like(log_snr, math.log(k))).mul(-gamma).exp()


def debiased_estimation(to_noise: Tensor, to_x0: Tensor) -> Tensor:
    """Weight 1/√SNR on the error of epsilon: √SNR on that of x0, √SNR/(SNR+1) on that of v.

    Yu et al. 2024 ("Unmasking Bias in Diffusion Model Training", 2310.08442), §3.3, for epsilon. At SNR = 0
    it is 0 on the errors of v and x0; on epsilon's it would be infinite, and is limited to 1,000, its value
    at SNR = 1e-6.
    """
    return ((to_noise + to_x0) / 2).clamp(max=FARTHEST / 2).exp()


def to_velocity(to_noise: Tensor, to_x0: Tensor) -> Tensor:
    """Return the log of the factor to the squared error of the velocity, limited to that at t or 1-t = 0.001.

    An error e of the velocity is an error (1-t)·e of the noise and t·e of x0: e is the sum of their sizes.
    """
    return (2 * torch.logaddexp(to_noise / 2, to_x0 / 2)).clamp(max=FARTHEST)


def sigma_sqrt(log_snr: Tensor) -> Tensor:
    """Weight 1/t² on the error of the velocity, t = sigmoid(-log-SNR/2) in (0, 1], 1 is noise.

    From `compute_loss_weighting_for_sd3` in diffusers, not from a paper. Its Flux scripts weight the velocity
    like this; its SD3 scripts by default weight x0, where 1/t² gives the unweighted loss of the velocity.
    """
    return (-2 * logsigmoid(-log_snr / 2)).exp()


def cosmap(log_snr: Tensor) -> Tensor:
    """Weight 2/(π(1 - 2t + 2t²)) on the error of the velocity, t as in `sigma_sqrt`; 2/π at both ends.

    The density of times at which flow matching has the log-SNR of the cosine schedule (Esser et al. 2024,
    2403.03206, §3.1), used as a weight on uniform times.
    """
    t = torch.sigmoid(-log_snr / 2)
    return 2 / (math.pi * (1 - 2 * t + 2 * t.square()))


def weight_of(spec: FixedSpec, log_snr: Tensor, to_noise: Tensor, to_x0: Tensor) -> Tensor:
    """Return the weight on the squared error of the network's output, in the shape of the arguments.

    log_snr: low is noise, minus infinity is allowed. to_noise, to_x0: its `Process.error_scales`. A
    soft-min-SNR needs its gamma.
    """
    match spec:
        case MinSNR(gamma=gamma):
            return min_snr(to_noise, to_x0, gamma)
        case SoftMinSNR(gamma=gamma):
            assert gamma is not None
            return soft_min_snr(to_noise, to_x0, gamma)
        case P2(gamma=gamma, k=k):
            return to_noise.exp() * p2(log_snr, gamma, k)
        case DebiasedEstimation():
            return debiased_estimation(to_noise, to_x0)
        case SigmaSqrt():
            return to_velocity(to_noise, to_x0).exp() * sigma_sqrt(log_snr)
        case CosMap():
            return to_velocity(to_noise, to_x0).exp() * cosmap(log_snr)


class Unweighted(nn.Module):
    """The loss is the squared error itself."""

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,) -> (B,)."""
        return raw


class FixedWeighting(nn.Module):
    """Multiply each squared error by `spec`'s weight at its log-SNR; `error_scales` is the process's."""

    def __init__(self, spec: FixedSpec, error_scales: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.spec = spec
        self.error_scales = error_scales

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,), low is noise and both infinities are allowed -> (B,)."""
        log_snr = log_snr.clamp(max=FARTHEST)
        return weight_of(self.spec, log_snr, *self.error_scales(log_snr)) * raw
