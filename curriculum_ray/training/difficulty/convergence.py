"""Convergence speed per interval of noise levels: the second observation of Kim et al. 2025.

The paper trains one model per interval of timesteps and compares how fast their losses fall. A cheaper way is one
model shared by all intervals, with its loss followed interval by interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["final_loss", "normalised", "steps_until"]


def final_loss(steps: Sequence[int], losses: Tensor) -> Tensor:
    """The level that each loss fell to: its mean over the last tenth of the steps, shape (K,)."""
    at = torch.tensor(steps)
    return losses[at >= 0.9 * at[-1]].mean(0)


def normalised(steps: Sequence[int], losses: Tensor) -> Tensor:
    """The share of each loss's total decrease that remains: (L(s) - L_end) / (L(0) - L_end), same shape (E, K).

    L_end is `final_loss`. 1 at the start and 0 at the end; 1 throughout for a loss that did not fall.

    steps: E steps, ascending from 0. losses: shape (E, K).
    """
    end = final_loss(steps, losses)
    fall = losses[0] - end
    return torch.where(fall > 0, (losses - end) / fall.clamp_min(torch.finfo(losses.dtype).tiny), 1.0)


def steps_until(steps: Sequence[int], remaining: Tensor, share: float = 0.1) -> Tensor:
    """Steps after which at most `share` of the decrease remains, float64, shape (K,).

    The first crossing, interpolated linearly between the two readings around it; the last step where there is none, as
    for a loss that did not fall.

    steps: E steps, ascending from 0. remaining: from `normalised`, shape (E, K). share: in (0, 1).
    """
    at = torch.tensor(steps, dtype=torch.float64)
    below = remaining <= share
    first = below.int().argmax(0).clamp_min(1)
    column = torch.arange(remaining.shape[1])
    high, low = remaining[first - 1, column].double(), remaining[first, column].double()
    part = ((high - share) / (high - low)).nan_to_num(1.0).clamp(0, 1)
    crossing = at[first - 1] + part * (at[first] - at[first - 1])
    return torch.where(below.any(0), crossing, at[-1])
