"""Relative entropy of consecutive marginals: densities integrated on a line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats

from curriculum_ray.curriculum.difficulty import (
    Mixture,
    gaussian_relative_entropy,
    relative_entropy,
)
from published import Check, row
from published.processes import products

SOURCE = "Kim et al. 2025, D(q_{t-1} || q_t)"
CENTRES, VARIANCES, WEIGHTS = (
    np.array([-0.9, 0.1, 1.2]),
    np.array([0.02, 0.05, 0.01]),
    np.array([0.5, 0.3, 0.2]),
)


def integrated(
    t: int, alphas: np.ndarray, centres: np.ndarray, variances: np.ndarray, weights: np.ndarray
) -> float:
    """∫ q_{t-1} ln(q_{t-1}/q_t) on a fine grid, of a mixture on a line."""
    x = np.linspace(-9, 9, 400_001)

    def density(level: int) -> np.ndarray:
        deviations = np.sqrt(alphas[level] * variances + 1 - alphas[level])
        parts = [
            weight * stats.norm.pdf(x, np.sqrt(alphas[level]) * centre, deviation)
            for weight, centre, deviation in zip(weights, centres, deviations, strict=True)
        ]
        return np.sum(parts, axis=0)

    before, after = density(t - 1), density(t)
    held = before > 0
    return float(np.trapezoid(before[held] * np.log(before[held] / after[held]), x[held]))


def checks() -> Iterator[Check]:
    """All of this file."""
    alphas = products("cosine", 50)
    signal, noise = torch.tensor(alphas).sqrt(), (1 - torch.tensor(alphas)).sqrt()
    mixture = Mixture.of(torch.tensor(CENTRES)[:, None], torch.tensor(VARIANCES), torch.tensor(WEIGHTS))
    for t in (1, 5, 20, 45):
        measured = relative_entropy(mixture, signal, noise, timesteps=[t], num_samples=200_000)
        exact = integrated(t, alphas, CENTRES, VARIANCES, WEIGHTS)
        sampling = 4 * float(measured.stderr) / exact
        yield row(f"relative entropy at t = {t} of 50", SOURCE, measured.value, exact, min(sampling, 0.1))
    one = (np.array([0.4]), np.array([0.3]), np.array([1.0]))
    ours = gaussian_relative_entropy(torch.tensor(one[0]), torch.tensor(one[1]), signal, noise, [1, 10, 49])
    integrals = [integrated(t, alphas, *one) for t in (1, 10, 49)]
    yield row("relative entropy of one Gaussian", SOURCE, ours, integrals, 1e-6)
