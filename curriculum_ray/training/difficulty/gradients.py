"""Agreement of the gradients of different noise levels, and how noisy each gradient is.

Pairwise cosines as in ANT (Go et al. 2023, arXiv 2306.00354, §3), free of their bias towards 0; the simple
noise scale as in McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", §2.2, Appendix A.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GradientMoments", "cosines", "gradient_moments", "noise_scale"]


@dataclass(frozen=True)
class GradientMoments:
    """Inner products of the gradients of K intervals of u (0 is the cleanest) at one point of training.

    step: the optimiser step after which they were taken.
    products (Tensor): G_a·G_b of the mean gradients, estimated without bias, float64, shape (K, K); the
        diagonal holds |G_a|² and may be negative where noise hides a gradient.
    variance (Tensor): tr(Σ_a), the variance of one image's gradient summed over parameters, float64, (K,).
    """

    step: int
    products: Tensor
    variance: Tensor


def gradient_moments(
    gradient: Callable[[int], Tensor], *, intervals: int, batches: int, batch_size: int, step: int = 0
) -> GradientMoments:
    """Estimate the moments from `batches` independent gradients per interval.

    gradient: called with an interval, returns the flat gradient (P,) of the mean loss of a fresh batch.
    Different intervals' means are independent, so their product is already unbiased. With M batches
    of b images, g their gradients and ḡ their mean, Eq. A.2 of McCandlish et al. reads
    |G|² ≈ (M |ḡ|² - mean |g|²) / (M - 1) and tr(Σ) ≈ b M (mean |g|² - |ḡ|²) / (M - 1). Holds K·P numbers.
    """
    assert batches >= 2
    means, squares = [], []
    for interval in range(intervals):
        total: Tensor | None = None
        square = 0.0
        for _ in range(batches):
            sample = gradient(interval)
            square += float(sample.double().square().sum()) / batches
            total = sample if total is None else total + sample
        assert total is not None
        means.append(total / batches)
        squares.append(square)
    mean_KP = torch.stack(means)
    products = torch.empty(intervals, intervals, dtype=torch.float64)
    for a, row in enumerate(mean_KP):
        products[a] = torch.stack([(row.double() * other.double()).sum() for other in mean_KP]).cpu()
    small = torch.tensor(squares, dtype=torch.float64)
    large = products.diagonal().clone()
    products.diagonal().copy_((batches * large - small) / (batches - 1))
    return GradientMoments(step, products, batch_size * batches * (small - large) / (batches - 1))


def cosines(moments: Sequence[GradientMoments]) -> Tensor:
    """Pairwise cosines of the mean gradients, averaged over `moments`, in [-1, 1], float64, shape (K, K).

    An interval whose |G|² is not positive, because noise hides its gradient, has no direction: its cosines
    count as 0 there. The diagonal is 1.
    """
    tables = []
    for each in moments:
        square = each.products.diagonal()
        length = square.clamp_min(0).sqrt()
        table = each.products / (length[:, None] * length)
        tables.append(table.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1))
    mean = torch.stack(tables).mean(0)
    mean.fill_diagonal_(1.0)
    return (mean + mean.T) / 2


def noise_scale(moments: Sequence[GradientMoments]) -> Tensor:
    """B_simple = tr(Σ) / |G|² in images, float64, shape (K,): below it a larger batch pays off, above it barely.

    Numerator and denominator are averaged over `moments` first, because the ratio of two estimates is biased;
    infinite where |G|² is not positive, because noise hides the gradient.
    """
    variance = torch.stack([each.variance for each in moments]).mean(0)
    square = torch.stack([each.products.diagonal() for each in moments]).mean(0)
    return torch.where(square > 0, variance / square, torch.inf)
