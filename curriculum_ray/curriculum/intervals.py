"""Cutting a line of points into intervals: dynamic programming with prefix sums, and edges on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["absolute_deviation", "best_intervals", "direction_spread", "snap", "spread"]


def absolute_deviation(values: Tensor) -> Tensor:
    """Cost of interval [l, r] = Σ |x_i - centre| about its median, the best centre (Go et al. 2023).

    values (Tensor): monotone, float64, shape (n,). Returns (n, n), inf below the diagonal. Prefix sums make
    it O(n²); a single point costs exactly 0.
    """
    n = len(values)
    if n > 1 and values[0] > values[-1]:
        values = -values
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    left, right = torch.arange(n)[:, None], torch.arange(n)[None]
    middle = (left + right) // 2
    # Of an ascending run, points after the middle lie above the median and those before it below.
    upper = sums[1:][None] - sums[middle + 1]
    lower = sums[middle] - sums[:-1][:, None]
    cost = upper - lower - values[middle] * ((right - middle) - (middle - left))
    cost.clamp_(min=0.0)
    cost.diagonal().zero_()
    return cost.masked_fill_(left > right, torch.inf)


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
    left, right = torch.arange(n)[:, None], torch.arange(n)[None]
    cost = (total / (mass[1:][None] - mass[:-1][:, None])).clamp_(min=0.0)
    cost.diagonal().zero_()
    return cost.masked_fill_(left > right, torch.inf)


def best_intervals(cost: Tensor, count: int) -> Tensor:
    """Cut n points into `count` non-empty intervals of the least total cost: O(count·n²), vectorised.

    cost (Tensor): cost[l, r] of the interval of points l..r, shape (n, n). Returns the edges: long (count +
    1,), from 0 to n, strictly ascending; interval i holds the points edge_i .. edge_{i+1} - 1.
    """
    n = len(cost)
    assert 1 <= count <= n
    # best[r]: the least cost of points 0..r in j intervals; starts[j][r]: where the last of them begins.
    best, starts = cost[0], []
    rest = cost[1:]
    for _ in range(count - 1):
        smallest, index = (best[:-1, None] + rest).min(dim=0)
        starts.append(index + 1)
        best = smallest
    edges = [n]
    for start in reversed(starts):
        edges.append(int(start[edges[-1] - 1]))
    return torch.tensor([0, *reversed(edges)])


def snap(targets: Tensor, grid: Tensor) -> Tensor:
    """Move ascending edges (N + 1,) to the nearest points of a strictly ascending grid (M + 1,), M >= N.

    Each interval keeps at least one cell; the ends go to the grid's ends.
    """
    last, count = len(grid) - 1, len(targets) - 1
    right = torch.searchsorted(grid, targets).clamp(1, last)
    index = torch.where(targets - grid[right - 1] <= grid[right] - targets, right - 1, right)
    steps = torch.arange(count + 1)
    # Running maximum of index - k keeps index strictly ascending; the cap leaves room for those that follow.
    index = (index - steps).cummax(0).values + steps
    index = torch.minimum(index, last - count + steps)
    index[0], index[-1] = 0, last
    return grid[index]


def spread(targets: Tensor) -> Tensor:
    """Pull ascending edges that coincide apart by 1e-9; the ends become exactly 0 and 1."""
    steps = torch.arange(len(targets), dtype=torch.float64) * 1e-9
    edges = (targets - steps).cummax(0).values + steps
    edges = torch.minimum(edges, 1 - (steps[-1] - steps))
    edges[0], edges[-1] = 0.0, 1.0
    return edges
