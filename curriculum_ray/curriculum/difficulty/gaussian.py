"""Relative entropy between consecutive marginals in closed form, with the data taken as one Gaussian."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["gaussian_relative_entropy", "principal_moments"]


@torch.no_grad()
def principal_moments(images: Tensor, block: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean (D,) in the basis of principal axes, and eigenvalues (D,) of the covariance (1/N), both float64.

    images (Tensor): floating point, shape (N, …), D numbers each; read in blocks, holds two D×D matrices.
    """
    flat = images.reshape(len(images), -1)
    mean = torch.stack([part.double().sum(0) for part in flat.split(block)]).sum(0) / len(flat)
    covariance = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
    for part in flat.split(block):
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    eigenvalues, axes = torch.linalg.eigh(covariance.div_(len(flat)))
    return axes.T @ mean, eigenvalues.clamp_min(0)


@torch.no_grad()
def gaussian_relative_entropy(
    mean: Tensor,
    eigenvalues: Tensor,
    signal: Tensor,
    noise_std: Tensor,
    timesteps: Iterable[int] | None = None,
) -> Tensor:
    """D_KL(q_{t-1} || q_t) in nats of q_t = N(s_t μ, s_t² Σ + σ_t² I), exactly; float64, shape (M,).

    With a_j = s² λ_j + σ² and primes for level t-1: ½ Σ_j [a'_j/a_j - 1 - ln(a'_j/a_j) + (s'-s)² μ_j²/a_j].
    It matches the data's relative entropy at the noisy end, where marginals are nearly Gaussian, and is
    too low at the clean end.

    mean, eigenvalues (Tensor): from `principal_moments`.
    signal, noise_std (Tensor): s_t and σ_t > 0, shape (T,), index 0 cleanest.
    timesteps: each in 1 … T-1 (1 is the cleanest pair); all of them by default.
    """
    mean, eigenvalues = mean.double(), eigenvalues.double()
    signal, noise_std = signal.double().cpu(), noise_std.double().cpu()
    values = []
    for t in range(1, len(signal)) if timesteps is None else timesteps:
        before = signal[t - 1] ** 2 * eigenvalues + noise_std[t - 1] ** 2
        after = signal[t] ** 2 * eigenvalues + noise_std[t] ** 2
        excess = (before - after) / after
        shift = (signal[t - 1] - signal[t]) ** 2 * mean**2 / after
        values.append(0.5 * (excess - torch.log1p(excess) + shift).sum())
    return torch.stack(values)
