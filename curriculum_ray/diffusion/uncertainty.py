"""Loss weightings by learned uncertainty (Kendall et al. 2018): continuous (EDM2) or one per interval (ANT).

The loss raw/e^u + u is least at u = ln E[raw], so that each level's loss comes to an expected size of 1.
Unlike a fixed weighting, u has parameters: they join the optimizer and the checkpoint.
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
    """Fourier features of the noise level that u is linear in."""


class IntervalUncertaintySpec(Spec):
    """A learned uncertainty per interval of noise levels (Go et al. 2023, ANT)."""

    kind: Literal["ant_uncertainty"] = "ant_uncertainty"
    """The weighting: ant_uncertainty."""

    intervals: Annotated[int, Field(ge=1, le=1000)] | tuple[float, ...] = 5
    """The number of intervals of equal log-SNR width, or the log-SNRs between them, rising (low is noise)."""

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        edges = self.intervals
        if isinstance(edges, tuple) and (not edges or any(a >= b for a, b in itertools.pairwise(edges))):
            raise ValueError(
                f"weighting.intervals must be one or more rising log-SNRs, but got {list(edges)}"
            )
        return self


class ContinuousUncertainty(nn.Module):
    """loss = raw / e^u + u with u linear in Fourier features of c_noise = ln(sigma) / 4, u = 0 at the start.

    Karras et al. 2024 (EDM2), "uncertainty-based loss weighting"; c_noise from Karras et al. 2022, Table 1.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        # The features are constants of the method, the same for every run and rank.
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(channels, generator=generator), False)
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator), False)
        self.linear = nn.Linear(channels, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def uncertainty(self, log_snr: Tensor) -> Tensor:
        """u of log-SNRs (finite; low is noise), same shape."""
        c_noise = log_snr / -8
        features = math.sqrt(2) * torch.cos(c_noise.unsqueeze(-1) * self.frequencies + self.phases)
        # Unit-variance features: the division keeps u's step size independent of their number.
        return self.linear(features / math.sqrt(len(self.phases))).squeeze(-1)

    def forward(self, raw: Tensor, log_snr: Tensor) -> Tensor:
        """raw (B,), log_snr (B,) -> (B,)."""
        u = self.uncertainty(log_snr)
        return raw / u.exp() + u


class IntervalUncertainty(nn.Module):
    """loss = raw / e^{u_k} + u_k in the k-th interval of log-SNR between `edges`, u = 0 at the start.

    edges: log-SNRs, rising, shape (k-1,); interval 0 is the noisiest. An edge belongs to the cleaner side.
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
