"""Beta schedules of DDPM: Ho et al. 2020, Nichol & Dhariwal 2021, Rombach et al. 2022, Lin et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

__all__ = ["BETAS", "BetaSchedule", "alphas_cumprod", "zero_terminal_snr"]

BetaSchedule = Literal["linear", "scaled_linear", "cosine"]

# Nichol & Dhariwal 2021, §3.2: no step may remove all of the remaining signal.
MAX_BETA = 0.999


def linear_betas(count: int) -> Tensor:
    """Betas rising linearly from 1e-4 to 0.02, the range of T = 1000 scaled to T = `count`.

    Returns float64 in (0, 0.999], shape (T,); the last is the noisiest (Ho et al. 2020, §4). The scaling
    keeps the total amount of noise.
    """
    scale = 1000 / count
    return torch.linspace(scale * 1e-4, scale * 0.02, count, dtype=torch.float64).clamp(max=MAX_BETA)


def scaled_linear_betas(count: int) -> Tensor:
    """Betas whose roots rise linearly, from 8.5e-4 to 0.012, the range of T = 1000 scaled to T = `count`.

    Returns float64 in (0, 0.999], shape (T,); the last is the noisiest. Those of Stable Diffusion (Rombach et al. 2022,
    "High-resolution image synthesis with latent diffusion models", in their code), and of what is fine-tuned from it.
    """
    scale = 1000 / count
    roots = torch.linspace((scale * 8.5e-4) ** 0.5, (scale * 0.012) ** 0.5, count, dtype=torch.float64)
    return roots.square().clamp(max=MAX_BETA)


def cosine_betas(count: int) -> Tensor:
    """Betas whose ᾱ falls like a squared cosine (Nichol & Dhariwal 2021, Eq. 17).

    Returns float64 in (0, 0.999], shape (T,); the last is the noisiest.
    """
    offset = 0.008
    time = torch.arange(count + 1, dtype=torch.float64) / count
    alphas = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alphas[1:] / alphas[:-1]).clamp(max=MAX_BETA)


BETAS: Mapping[BetaSchedule, Callable[[int], Tensor]] = MappingProxyType(
    {"linear": linear_betas, "scaled_linear": scaled_linear_betas, "cosine": cosine_betas}
)
"""By name, the function from T to the betas, float64 in (0, 0.999], shape (T,); the last is the noisiest."""


def alphas_cumprod(betas: BetaSchedule, count: int, zero_terminal: bool = False) -> Tensor:
    """ᾱ_t = Π_{s≤t} (1 - β_s), float64, shape (T,), near 0 at the noisy end T-1 (Ho et al. 2020, Eq. 4).

    zero_terminal: rescale it to exactly 0 at T-1.
    """
    alphas = (1 - BETAS[betas](count)).cumprod(0)
    return zero_terminal_snr(alphas) if zero_terminal else alphas


def zero_terminal_snr(alphas: Tensor) -> Tensor:
    """Shift and scale √ᾱ_t, ᾱ of shape (T,): the first is kept, the last, the noisiest, becomes exactly 0.

    Lin et al. 2024 ("Common Diffusion Noise Schedules and Sample Steps are Flawed"), Alg. 1.
    """
    roots = alphas.sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
