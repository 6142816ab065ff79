"""How a diffusion process numbers its noise levels, and how each number maps to a log-SNR.

Throughout, log-SNR = ln(alpha² / sigma²) for the noisy sample alpha·x0 + sigma·noise, with the data's
variance taken as 1 (Kingma et al. 2021, §3.1). It falls as noise grows: the *low* end of log-SNR is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["DiscreteTimesteps", "FlowTimes", "NoiseLevels", "Sigmas"]


class NoiseLevels(Protocol):
    """The native noise levels of a process: DDPM timesteps, EDM sigmas or flow times; the high end is noise.

    All methods work elementwise on tensors of any shape and device, and never synchronise with the device.
    """

    @property
    def kind(self) -> str:
        """The kind of level: "timestep", "sigma" or "flow"."""
        ...

    @property
    def count(self) -> int | None:
        """The number of levels, or None if they are continuous."""
        ...

    def from_time(self, v: Tensor) -> Tensor:
        """Map time v in [0, 1), 1 is noise, to levels; sigmas have no uniform time: ValueError."""
        ...

    def from_sigma(self, sigma: Tensor) -> Tensor:
        """Map noise standard deviations sigma > 0 (relative to unscaled data; large is noise) to levels."""
        ...

    def from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Map log-SNRs (any real number; low is noise) to levels, the nearest one if they are discrete."""
        ...

    def log_snr(self, level: Tensor) -> Tensor:
        """Map levels to log-SNRs (float; low is noise)."""
        ...


@dataclass(frozen=True, eq=False)
class DiscreteTimesteps:
    """DDPM timesteps t = 0 .. T-1 (long; 0 is the cleanest, T-1 is noise) with SNR_t = ᾱ_t / (1 - ᾱ_t).

    `alphas_cumprod` holds ᾱ_t, shape (T,), strictly decreasing in [0, 1): ᾱ_{T-1} = 0 is zero terminal SNR.
    """

    alphas_cumprod: Tensor
    _tables: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    kind = "timestep"

    def __post_init__(self) -> None:
        values = self.alphas_cumprod
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(f"alphas_cumprod must have shape (T,), but got {tuple(values.shape)}")
        if not bool(((values >= 0) & (values < 1)).all() and (values.diff() < 0).all()):
            raise ValueError("alphas_cumprod must decrease strictly and stay within [0, 1)")

    @property
    def count(self) -> int:
        return len(self.alphas_cumprod)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return (log-SNR of each t, the T-1 midpoints of -log-SNR), copied to `device` once."""
        if device not in self._tables:
            # float64 separates neighbours near the clean end, but MPS does not support it.
            dtype = torch.float32 if device.type == "mps" else torch.float64
            alphas = self.alphas_cumprod.detach().to("cpu", torch.float64)
            log_snr = alphas.log() - (-alphas).log1p()
            midpoints = -(log_snr[1:] + log_snr[:-1]) / 2
            self._tables[device] = log_snr.to(device, dtype), midpoints.to(device, dtype)
        return self._tables[device]

    def from_time(self, v: Tensor) -> Tensor:
        """t = floor(v·T), long; v in [0, 1), 1 is noise."""
        return (v * self.count).long().clamp(0, self.count - 1)

    def from_sigma(self, sigma: Tensor) -> Tensor:
        """Return the t whose log-SNR is nearest to -2 ln sigma, long; large sigma is noise."""
        return self.from_log_snr(-2 * sigma.log())

    def from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Return the t whose log-SNR is nearest, long, clamped to the table. Low log-SNR is noise."""
        _, midpoints = self._on(log_snr.device)
        return torch.searchsorted(midpoints, -log_snr.to(midpoints.dtype), right=True)

    def log_snr(self, level: Tensor) -> Tensor:
        """ln(ᾱ_t / (1 - ᾱ_t)) of timesteps t in 0 .. T-1 (long; T-1 is noise), as float64."""
        table, _ = self._on(level.device)
        return table[level]


@dataclass(frozen=True)
class Sigmas:
    """EDM noise levels sigma > 0, large is noise, of x0 + sigma·noise (Karras et al. 2022, §2)."""

    kind = "sigma"
    count = None

    def from_time(self, v: Tensor) -> Tensor:
        raise ValueError(
            "sigmas have no uniform time in [0, 1): use a base distribution over sigma or log-SNR, "
            "such as log_normal_sigma"
        )

    def from_sigma(self, sigma: Tensor) -> Tensor:
        return sigma

    def from_log_snr(self, log_snr: Tensor) -> Tensor:
        """sigma = exp(-log-SNR / 2); low log-SNR is noise."""
        return (-log_snr / 2).exp()

    def log_snr(self, level: Tensor) -> Tensor:
        """-2 ln sigma."""
        return -2 * level.log()


@dataclass(frozen=True)
class FlowTimes:
    """Flow-matching times t in [0, 1], 1 is noise, of (1-t)·x0 + t·noise (Liu et al. 2023, §2)."""

    kind = "flow"
    count = None

    def from_time(self, v: Tensor) -> Tensor:
        return v

    def from_sigma(self, sigma: Tensor) -> Tensor:
        """t = sigma / (1 + sigma), which has the same ratio of noise to data; large sigma is noise."""
        return sigma / (1 + sigma)

    def from_log_snr(self, log_snr: Tensor) -> Tensor:
        """t = sigmoid(-log-SNR / 2); low log-SNR is noise."""
        return torch.sigmoid(-log_snr / 2)

    def log_snr(self, level: Tensor) -> Tensor:
        """2 ln((1-t) / t); t -> 1 is noise."""
        return 2 * ((-level).log1p() - level.log())
