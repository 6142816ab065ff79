"""One published formula beside another computation of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Check", "row"]


@dataclass(frozen=True)
class Check:
    """What the package computes, and the same computed another way, at the point where they differ most."""

    formula: str
    """The formula, in a few words."""
    source: str
    """Where it was published, or how it is known."""
    ours: float
    """The package's value there."""
    independent: float
    """The other computation's."""
    error: float
    """The largest difference, relative to the values or, where these are small, to `floor`."""
    tolerance: float
    """The largest error that passes."""

    @property
    def off(self) -> bool:
        """Whether they differ; what is not a number does."""
        return not self.error <= self.tolerance


def row(
    formula: str,
    source: str,
    ours: ArrayLike,
    independent: ArrayLike,
    tolerance: float = 1e-9,
    floor: float = 1e-12,
) -> Check:
    """Compare numbers or arrays of one shape; see `Check`."""
    a, b = np.asarray(ours, dtype=np.float64).ravel(), np.asarray(independent, dtype=np.float64).ravel()
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"{formula}: {a.shape} values beside {b.shape}")
    with np.errstate(invalid="ignore"):
        errors = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
    errors[a == b] = 0.0
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    return Check(formula, source, float(a[worst]), float(b[worst]), float(errors[worst]), tolerance)
