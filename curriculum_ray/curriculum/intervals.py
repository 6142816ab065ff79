"""Cuts a line of points into intervals: dynamic programming with prefix sums, and edges on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["absolute_deviation", "best_intervals", "direction_spread", "snap", "spread"]

# Rows per pass of the dynamic programme: a block of them stays in a core's cache.
BLOCK = 64
# Widths in u that differ by less count as equal.
ROUNDING = 1e-12


def absolute_deviation(values: Tensor) -> Tensor:
    """Cost of interval [l, r] = Σ |x_i - centre| about its median, the best centre (Go et al. 2023).

    values (Tensor): monotone, float64, shape (n,). Returns (n, n), inf below the diagonal. A single point
    costs exactly 0. With P the prefix sums and m = floor((l + r)/2), an ascending run costs
    P_{r+1} + P_l - P_m - P_{m+1} - x_m·((l + r) mod 2), whose last three terms depend on l + r alone.
    """
    n = len(values)
    if values[0] > values[-1]:
        values = -values
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    both = torch.arange(2 * n - 1)
    middle = both // 2
    central = sums[middle] + sums[middle + 1] + values[middle] * (both % 2)
    # Rows are the right ends, the layout that `best_intervals` reads.
    cost = (sums[1:, None] + sums[None, :-1]).sub_(central.as_strided((n, n), (1, 1))).clamp_(min=0.0)
    return _upper(cost.T)


def direction_spread(similarity: Tensor, weights: Tensor) -> Tensor:
    """Cost of interval [l, r] = Σ_ij w_i w_j (1 - S_ij) / Σ_i w_i, for the cosine S of unit vectors.

    It is the weighted squared distance of the vectors to their mean: k-means of directions, in sequence.
    similarity: float64 (n, n). weights: positive, (n,). Returns (n, n), inf below the diagonal.
    """
    n = len(weights)
    block = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    block[1:, 1:] = (weights[:, None] * weights[None] * (1 - similarity)).cumsum(0).cumsum(1)
    diagonal = block.diagonal()
    total = diagonal[1:][None] - block[:-1, 1:] - block[1:, :-1].T + diagonal[:-1][:, None]
    mass = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
    return _upper((total / (mass[1:][None] - mass[:-1][:, None])).clamp_(min=0.0))


def _upper(cost: Tensor) -> Tensor:
    """Set the diagonal, which may hold rounding errors, to 0, and the part below it to inf."""
    cost.diagonal().zero_()
    below = torch.ones(cost.shape, dtype=torch.bool).tril_(-1)
    return cost.masked_fill_(below, torch.inf)


def best_intervals(cost: Tensor, count: int) -> Tensor:
    """Cut n points into `count` non-empty intervals of the least total cost: dynamic programming in O(kn²).

    cost (Tensor): cost[l, r] of the interval of points l..r, inf for l > r, shape (n, n). Returns the edges:
    long (count + 1,), strictly ascending from 0 to n; interval i holds the points edge_i .. edge_{i+1} - 1.
    """
    n = len(cost)
    assert 1 <= count <= n
    by_end = cost.T.contiguous()
    # totals[j][r]: the least cost of points 0..r in j + 1 intervals.
    totals = [by_end[:, 0].contiguous()]
    for _ in range(count - 1):
        before = totals[-1]
        totals.append(
            torch.cat(
                [
                    # The last interval starts at 1..r: columns beyond the block's last row are all inf.
                    (
                        by_end[start : start + BLOCK, 1 : start + BLOCK] + before[: min(start + BLOCK, n) - 1]
                    ).amin(1)
                    for start in range(0, n, BLOCK)
                ]
            )
        )
    edges = [n]
    for before in reversed(totals[:-1]):
        last = edges[-1] - 1
        edges.append(int((before[:last] + by_end[last, 1 : last + 1]).argmin()) + 1)
    return torch.tensor([0, *reversed(edges)])


def snap(targets: Tensor, grid: Tensor, least: float = 0.0) -> Tensor:
    """Move ascending edges (N + 1,) to the nearest points of a strictly ascending grid (M + 1,), M >= N.

    The ends go to the grid's ends. Each interval keeps a width of `least`, at least one cell; where the grid's
    cells are too coarse for N such intervals, one cell each is all that is kept.
    """
    last, count = len(grid) - 1, len(targets) - 1
    cells = torch.arange(last + 1)
    # From each point of the grid, the next and the last one that leave room for an interval.
    after = torch.maximum(torch.searchsorted(grid, grid + (least - ROUNDING)), cells + 1).tolist()
    before = torch.minimum(
        torch.searchsorted(grid, grid - (least - ROUNDING), right=True) - 1, cells - 1
    ).tolist()
    latest = [last]
    for _ in range(count):
        latest.append(before[latest[-1]])
        if latest[-1] < 0:
            return snap(targets, grid)
    right = torch.searchsorted(grid, targets).clamp(1, last)
    nearest = torch.where(targets - grid[right - 1] <= grid[right] - targets, right - 1, right).tolist()
    index = [0]
    for wanted, limit in zip(nearest[1:-1], latest[-2:0:-1], strict=True):
        index.append(min(max(wanted, after[index[-1]]), limit))
    return grid[torch.tensor([*index, last])]


def spread(targets: Tensor, least: float = 1e-9) -> Tensor:
    """Move ascending edges at least `least` apart; the ends become exactly 0 and 1."""
    steps = torch.arange(len(targets), dtype=torch.float64) * least
    edges = (targets - steps).cummax(0).values + steps
    edges = torch.minimum(edges, 1 - (steps[-1] - steps))
    edges[0], edges[-1] = 0.0, 1.0
    return edges
