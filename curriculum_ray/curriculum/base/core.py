"""The interface of base distributions: a monotone map between u and noise levels, pairs and loss weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["TAIL", "Base", "FixedBase", "Quantile", "TimeQuantile"]

# Q of an unbounded distribution is evaluated at most this close to u = 0 and u = 1, where it is infinite.
TAIL = 2.0**-53


class Base(Spec, ABC):
    """A base distribution: how u in [0, 1) maps to a process's noise levels; u -> 0 is clean and u -> 1 noise."""

    kind: str

    @abstractmethod
    def to_levels(self, u: Tensor, levels: NoiseLevels) -> Tensor:
        """Map u in [0, 1) (float64, any shape) to native levels, which rise with noise.

        Raises ValueError where the distribution does not apply to `levels`.
        """

    @abstractmethod
    def to_u(self, level: Tensor, levels: NoiseLevels) -> Tensor:
        """Map continuous native levels back to u in [0, 1]; the inverse of `to_levels`."""

    def distributions(self) -> tuple[FixedBase, ...]:
        """The distributions drawn from during training; u is that of the first."""
        assert isinstance(self, FixedBase)
        return (self,)

    def absolute_lengths(self) -> dict[str, int]:
        """The lengths that are given in images, by key: they do not shrink with the budget."""
        return {}

    def describe(self) -> str:
        """A short description."""
        return self.kind


class FixedBase(Base, ABC):
    """A base distribution that stays the same for the whole of training."""

    def loss_weights(self, levels: NoiseLevels) -> Tensor | None:
        """The method's weight for the loss of each timestep, float64 (T,), or None."""
        return None

    def pairing(self, levels: NoiseLevels) -> Tensor | None:
        """The pairs of draws, as `Rearrangement` takes them, or None without pairs."""
        return None


class Quantile(FixedBase, ABC):
    """A distribution with a quantile function Q and its inverse F, in the domain that the class names.

    The domain is time (in [0, 1), 1 is noise), sigma (> 0, large is noise) or log-SNR (any real number, low is noise);
    `NoiseLevels` maps it to a process's own levels.
    """

    domain: ClassVar[Literal["time", "sigma", "log_snr"]]

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Q(u): u in [0, 1) (float64, any shape; 1 is noise) to a value of the domain; rises with noise."""

    @abstractmethod
    def cdf(self, value: Tensor) -> Tensor:
        """F, the inverse of `quantile`: the probability of a level cleaner than `value`, in [0, 1]."""

    def to_levels(self, u: Tensor, levels: NoiseLevels) -> Tensor:
        """Q, then the process's map from the domain."""
        value = self.quantile(u)
        if self.domain == "time":
            return levels.from_time(value)
        return levels.from_sigma(value) if self.domain == "sigma" else levels.from_log_snr(value)

    def to_u(self, level: Tensor, levels: NoiseLevels) -> Tensor:
        """The process's map to the domain, then F."""
        if self.domain == "time":
            if levels.kind != "flow":
                raise ValueError(f"base {self.kind!r} is over time, which {levels.kind} levels do not have")
            return self.cdf(level)
        log_snr = levels.log_snr(level)
        return self.cdf((-log_snr / 2).exp() if self.domain == "sigma" else log_snr)


class TimeQuantile(Quantile, ABC):
    """A distribution over times in [0, 1), 1 is noise. Not for sigmas."""

    domain = "time"
