"""The embedding of the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

__all__ = ["NoiseEmbedding"]

# The longest wavelength of the sinusoids over 2π (Vaswani et al. 2017, §3.5).
MAX_PERIOD = 10_000


class NoiseEmbedding(nn.Module):
    """noise_cond (B,), spanning about 1000 units, high is noise -> (B, width): sinusoids and two layers.

    waves: number of frequencies; width // 2 by default.
    """

    def __init__(self, width: int, waves: int | None = None) -> None:
        super().__init__()
        self.waves = width // 2 if waves is None else waves
        self.layer1 = nn.Linear(2 * self.waves, width)
        self.layer2 = nn.Linear(width, width)

    def forward(self, noise_cond: Tensor) -> Tensor:
        """See the class."""
        # Always in float32: bfloat16 cannot resolve neighbouring timesteps.
        steps = torch.arange(self.waves, device=noise_cond.device, dtype=torch.float32) / self.waves
        angles = noise_cond.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * steps)
        features = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.layer1.weight.dtype)
        return self.layer2(silu(self.layer1(features)))
