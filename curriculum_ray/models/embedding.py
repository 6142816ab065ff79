"""What a network is told beside the noisy image: the noise level and the class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

__all__ = ["LabelEmbedding", "NoiseEmbedding"]

# The longest wavelength of the sinusoids over 2π (Vaswani et al. 2017, §3.5).
MAX_PERIOD = 10_000


class NoiseEmbedding(nn.Module):
    """noise_cond (B,), spanning about 1000 units, high is noise -> (B, width): sinusoids and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.waves = width // 2
        self.layer1 = nn.Linear(2 * self.waves, width)
        self.layer2 = nn.Linear(width, width)

    def forward(self, noise_cond: Tensor) -> Tensor:
        """See the class."""
        # Always in float32: bfloat16 cannot tell neighbouring timesteps apart.
        steps = torch.arange(self.waves, device=noise_cond.device, dtype=torch.float32) / self.waves
        angles = noise_cond.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * steps)
        features = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.layer1.weight.dtype)
        return self.layer2(silu(self.layer1(features)))


class LabelEmbedding(nn.Module):
    """labels (B,) long in 0 .. num_classes-1 -> (B, width); -1, or None for the batch, is the null class.

    In training each label becomes the null class with probability `dropout` (Ho & Salimans 2022, Alg. 1),
    drawn from the global generator.
    """

    def __init__(self, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dropout = dropout
        self.table = nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Tensor | None, batch: int) -> Tensor:
        """See the class."""
        device = self.table.weight.device
        if labels is None:
            labels = torch.full((batch,), -1, device=device)
        hidden = labels < 0
        if self.training and self.dropout > 0:
            hidden = hidden | (torch.rand(batch, device=device) < self.dropout)
        return self.table(labels.masked_fill(hidden, self.num_classes))
