"""Timestep shifts over any distribution of times: more noise for items of higher resolution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from curriculum_ray.curriculum.base.core import TimeQuantile
from curriculum_ray.curriculum.base.time import Asymmetric, Beta, CosMap, LogitNormal, Mode, Normal, Uniform

__all__ = ["FluxShifted", "Shifted", "SqrtShifted", "TimeBaseSpec"]

TimeBaseSpec = Annotated[
    Uniform | LogitNormal | Normal | Mode | CosMap | Beta | Asymmetric, Field(discriminator="kind")
]


class _Shifted(TimeQuantile, ABC):
    of: TimeBaseSpec = Uniform()
    """The distribution whose times are shifted."""

    @property
    @abstractmethod
    def factor(self) -> float:
        """s > 0: above 1 for more noise, 1 for no shift."""

    def quantile(self, u: Tensor) -> Tensor:
        """Q(u) = s·t / (1 + (s-1)·t) with t = Q_of(u)."""
        t, s = self.of.quantile(u), self.factor
        return s * t / (1 + (s - 1) * t)

    def cdf(self, value: Tensor) -> Tensor:
        """F(v) = F_of(v / (s - (s-1)·v)): the inverse of a shift by s is one by 1/s."""
        s = self.factor
        return self.of.cdf(value / (s - (s - 1) * value))

    def describe(self) -> str:
        """The shift and what it shifts."""
        return f"{self.of.describe()} shifted by {self.factor:.3g}"


class Shifted(_Shifted):
    """Times shifted by a fixed s: t -> s·t / (1 + (s-1)·t), i.e. all log-SNRs of flow times lowered by 2·ln s.

    Esser et al. 2024 (2403.03206), §5.3.2, Eq. 23; they train and sample at 1024² with s = 3. Not for sigmas.
    """

    kind: Literal["shifted"] = "shifted"
    """Times shifted by a fixed factor."""
    shift: float = Field(default=3.0, gt=0)
    """s: above 1 for more noise, below 1 for less."""

    @property
    def factor(self) -> float:
        """s."""
        return self.shift


class SqrtShifted(_Shifted):
    """Times shifted by resolution, s = √(tokens / reference) (Esser et al. 2024, 2403.03206, §5.3.2, Eq. 23).

    The uncertainty about a constant image of n values falls as 1/√n, so s keeps it as it is at the reference. "Tokens"
    are the paper's pixels m and n, in any unit: only their ratio matters. Not for sigmas.
    """

    kind: Literal["sqrt_shifted"] = "sqrt_shifted"
    """Times shifted by the square root of the ratio of two resolutions."""
    tokens: int = Field(ge=1)
    """Tokens, pixels or values of an item."""
    reference: int = Field(ge=1)
    """The number at which nothing is shifted, in the same unit."""

    @property
    def factor(self) -> float:
        """s = √(tokens / reference)."""
        return math.sqrt(self.tokens / self.reference)


class FluxShifted(_Shifted):
    """Times shifted by resolution as FLUX.1 does: s = exp(μ), μ linear in the tokens through (256, ½), (4096, 1.15).

    Black Forest Labs, flux, `sampling.get_schedule` and `time_shift`: t -> e^μ / (e^μ + 1/t - 1). Not for sigmas.
    """

    kind: Literal["flux_shifted"] = "flux_shifted"
    """Times shifted by an exponential of the number of tokens."""
    tokens: int = Field(ge=1, le=2**16)
    """Tokens of an item, after patching: 4,096 at 1024² pixels; at most those of 4096²."""
    base_shift: float = 0.5
    """μ at 256 tokens."""
    max_shift: float = 1.15
    """μ at 4,096 tokens."""

    @property
    def factor(self) -> float:
        """s = exp(base_shift + (max_shift - base_shift)·(tokens - 256) / (4096 - 256))."""
        slope = (self.max_shift - self.base_shift) / (4096 - 256)
        return math.exp(self.base_shift + slope * (self.tokens - 256))
