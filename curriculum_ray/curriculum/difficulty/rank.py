"""Spearman's rank correlation, with ties ranked by their mean."""

from __future__ import annotations

from torch import Tensor

__all__ = ["spearman"]


def spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation of two vectors of one length in [-1, 1]; 0 when either is constant.

    Raises ValueError for fewer than two values, or for values that cannot be ranked.
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise ValueError(f"spearman takes two vectors of one length, but got {x.shape} and {y.shape}")
    if bool(x.isnan().any()) or bool(y.isnan().any()):
        raise ValueError("spearman cannot rank NaN")
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = a.norm() * b.norm()
    return float((a @ b / scale).clamp(-1, 1)) if scale > 0 else 0.0


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing the mean of their places; float64."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]
