"""Loss weightings by learned uncertainty (Kendall et al. 2018): continuous (EDM2) or one per interval (ANT).

The loss raw/e^u + u is minimal at u = ln E[raw], where raw/e^u is 1 on average at each level. Unlike a fixed
weighting, u has parameters, which belong to the optimizer and the checkpoint.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from curriculum_ray.config import Spec

__all__ = ["ContinuousUncertainty", "EDM2Uncertainty", "IntervalUncertainty", "IntervalUncertaintySpec"]


class EDM2Uncertainty(Spec):
    """A learned uncertainty u(noise level), continuous in the noise level (Karras et al. 2024, EDM2)."""

    kind: Literal["edm2_uncertainty"] = "edm2_uncertainty"
    """The weighting: edm2_uncertainty."""

    channels: int = Field(default=128, ge=1, le=4096)
    """Number of Fourier features of the noise level, in which u is linear."""


class IntervalUncertaintySpec(Spec):
    """A learned uncertainty per interval of noise levels (Go et al. 2023, ANT).

    A number of intervals gives each equally many levels, as in the paper's released training code, which
    splits t uniformly: equal shares of the timesteps, of flow's times, and of the levels on which EDM is
    trained (ln sigma ~ N(-1.2, 1.2²)). Intervals of equal log-SNR width would contain a single timestep at
    the noisy end of cosine betas, where one step spans a quarter of the range.

    Adam moves each u by about the learning rate a step, and u has to go from 0 to ln E[raw], which is -5 where the loss
    is 0.007: with a rate of 2e-3 that takes thousands of steps, before which this hardly differs from no weighting.
    """

    kind: Literal["ant_uncertainty"] = "ant_uncertainty"
    """The weighting: ant_uncertainty."""

    intervals: Annotated[int, Field(ge=1, le=1000)] | tuple[float, ...] = 5
    """The number of equally populated intervals, or the ascending log-SNRs between them (low is noise)."""

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        edges = self.intervals
        if isinstance(edges, tuple) and (not edges or any(a >= b for a, b in itertools.pairwise(edges))):
            raise ValueError(
                f"weighting.intervals must be one or more ascending log-SNRs, but got {list(edges)}"
            )
        return self


class ContinuousUncertainty(nn.Module):
    """loss = raw / e^u + u with u linear in Fourier features of c_noise = ln(sigma) / 4, initially 0.

    Karras et al. 2024 (EDM2), "uncertainty-based loss weighting"; c_noise from Karras et al. 2022, Table 1.
    log_snr_range: lowest and highest log-SNR, to which others are clamped; that of pure noise is infinite.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(
        self, channels: int = 128, log_snr_range: tuple[float, float] = (-math.inf, math.inf)
    ) -> None:
        super().__init__()
        self.log_snr_range = log_snr_range
        # The features are fixed, and equal in every run and rank.
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(channels, generator=generator), False)
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator), False)
        self.linear = nn.Linear(channels, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def uncertainty(self, log_snr: Tensor) -> Tensor:
        """Return u at log-SNRs (low is noise), same shape, in float32 also where the network is in half precision."""
        c_noise = log_snr.clamp(*self.log_snr_range) / -8
        features = math.sqrt(2) * torch.cos(c_noise.unsqueeze(-1) * self.frequencies + self.phases)
        # The division keeps the step size of u independent of the number of unit-variance features.
        # Autocast makes matrix products in half precision, but not sums.
        terms = features / math.sqrt(len(self.phases)) * self.linear.weight
        return terms.sum(-1) + self.linear.bias

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,) -> (B,)."""
        u = self.uncertainty(log_snr)
        return raw / u.exp() + u


class IntervalUncertainty(nn.Module):
    """loss = raw / e^{u_k} + u_k in the k-th interval of log-SNR between `edges`, initially u = 0.

    This is twice the loss of Kendall et al. 2018 and of ANT's released code, with the same u_k, the log of a
    variance. edges: ascending log-SNRs, shape (k-1,); interval 0 is the noisiest. An edge belongs to the
    cleaner side.
    """

    edges: Tensor

    def __init__(self, edges: Tensor) -> None:
        super().__init__()
        assert edges.ndim == 1
        self.register_buffer("edges", edges.float(), persistent=False)
        self.u = nn.Parameter(torch.zeros(len(edges) + 1))

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,) -> (B,)."""
        u = self.u[torch.bucketize(log_snr, self.edges, right=True)]
        return raw / u.exp() + u
