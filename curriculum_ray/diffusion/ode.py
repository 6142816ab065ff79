"""Euler's and Heun's method for the diffusion ODE (Karras et al. 2022, Alg. 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor

__all__ = ["solve"]


def solve(
    slope: Callable[[Tensor, float], Tensor],
    x: Tensor,
    levels: Sequence[float],
    *,
    heun: bool,
    first: Tensor | None = None,
) -> Tensor:
    """Integrate dx/dlevel = slope(x, level) from `x` at levels[0], the noisiest, down to levels[-1] >= 0.

    heun: correct each step by the slope at its end, except a step to level 0, where the slope may not exist.
    first: the slope at `x` and levels[0], if known.
    """
    for level, after in itertools.pairwise(levels):
        start = slope(x, level) if first is None else first
        first = None
        x_after = x + (after - level) * start
        if heun and after > 0:
            x_after = x + (after - level) / 2 * (start + slope(x_after, after))
        x = x_after
    return x
