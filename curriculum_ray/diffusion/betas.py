"""Beta schedules of DDPM: Ho et al. 2020, Nichol & Dhariwal 2021, Lin et al. 2024."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["BetaSchedule", "alphas_cumprod", "cosine_betas", "linear_betas", "zero_terminal_snr"]

BetaSchedule = Literal["linear", "cosine"]

# Nichol & Dhariwal 2021, §3.2: no step may remove all of the remaining signal.
MAX_BETA = 0.999


def linear_betas(count: int) -> Tensor:
    """Betas rising linearly from 1e-4 to 0.02, the range of T = 1000 scaled to T = `count`.

    Returns float64 in (0, 0.999], shape (T,); the last is the noisiest (Ho et al. 2020, §4). The scaling
    keeps the total amount of noise.
    """
    scale = 1000 / count
    return torch.linspace(scale * 1e-4, scale * 0.02, count, dtype=torch.float64).clamp(max=MAX_BETA)


def cosine_betas(count: int) -> Tensor:
    """Betas whose ᾱ falls like a squared cosine (Nichol & Dhariwal 2021, Eq. 17).

    Returns float64 in (0, 0.999], shape (T,); the last is the noisiest.
    """
    offset = 0.008
    time = torch.arange(count + 1, dtype=torch.float64) / count
    alphas = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alphas[1:] / alphas[:-1]).clamp(max=MAX_BETA)


def alphas_cumprod(betas: BetaSchedule, count: int, zero_terminal: bool = False) -> Tensor:
    """ᾱ_t = Π_{s≤t} (1 - β_s), float64, shape (T,), near 0 at the noisy end T-1 (Ho et al. 2020, Eq. 4).

    zero_terminal: rescale it to exactly 0 at T-1.
    """
    table = {"linear": linear_betas, "cosine": cosine_betas}[betas](count)
    alphas = (1 - table).cumprod(0)
    return zero_terminal_snr(alphas) if zero_terminal else alphas


def zero_terminal_snr(alphas: Tensor) -> Tensor:
    """Shift and scale √ᾱ_t, ᾱ of shape (T,): the first is kept, the last, the noisiest, becomes exactly 0.

    Lin et al. 2024 ("Common Diffusion Noise Schedules and Sample Steps are Flawed"), Alg. 1.
    """
    roots = alphas.sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
