"""Importance sampling of noise levels: bins of u with large losses or gradients are drawn more and weigh less.

With m_b the mass of bin b in what the schedule draws and s_b the root mean square of its statistic over its latest
`history` entries, bin b is drawn with probability

    q_b = (1-ε)·m_b·s_b / Σ m·s + ε·m_b / Σ m,     its losses are multiplied by m_b / (q_b·Σ m),

so that the expectation of the loss, and of its gradient, is the same as without importance. Sums are over the bins that
are drawn, m_b > 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from curriculum_ray.config import Spec

__all__ = [
    "GradientNorm",
    "Importance",
    "ImportanceSpec",
    "LossSecondMoment",
    "NoImportance",
]

History = tuple[tuple[float, ...], ...]
"""The latest mean squares of each bin's statistic, the newest last."""


class NoImportance(Spec):
    """Draws follow the base and the curriculum alone."""

    rule: Literal["none"] = "none"
    """No importance sampling."""


class _Importance(Spec, ABC):
    bins: int = Field(default=100, ge=2, le=1000)
    """Number of equal parts of u; of the first distribution's u where the base changes."""
    history: int = Field(default=10, ge=1, le=1000)
    """Entries kept for each bin, fewer than the run's steps: the latest steps in which it was drawn."""
    uniform_prob: float = Field(default=0.001, gt=0, le=1)
    """ε: the share of the draws without importance."""

    @abstractmethod
    def squares(self, raw: Tensor, loss: Tensor) -> Tensor:
        """The square of the statistic of each sample (B,), from its unweighted and its weighted loss (B,)."""


class LossSecondMoment(_Importance):
    """In proportion to √E[L²] (Nichol & Dhariwal 2021, 2102.09672, §3.3, Eq. 18), L the loss that is trained.

    L must be a loss that is 0 at best, like the term of the bound there. Needs a weighting that is not learned: the L
    of one that is, raw/e^u + u, is known up to a constant only, and a level where it passes 0 would hardly be drawn.

    As improved-diffusion's `LossSecondMomentResampler`: the latest 10 losses, ε = 0.001, and plain draws until every
    history is full. That has a history for each timestep and an entry for each sample. Here histories are by bin,
    so that they exist for every process, and entries by step in which the bin was drawn, with the step's mean of L².
    Draws are plain until the history of every *active* bin with a share of the draws is full, and again for a while
    when a cluster joins.
    """

    rule: Literal["loss_second_moment"] = "loss_second_moment"
    """In proportion to the root mean square of the loss."""

    def squares(self, raw: Tensor, loss: Tensor) -> Tensor:
        """L²."""
        return loss.square()


class GradientNorm(_Importance):
    """In proportion to √E[‖∂L/∂output‖²]: the gradient's variance is least where draws follow its norm.

    Zhao & Zhang 2015 (1401.2753), with the bound by the gradient at the network's output of Katharopoulos & Fleuret
    2018 (1803.00942), §3.2. For L = w·raw, raw the mean squared error of D values, ‖∂L/∂output‖² = 4·w²·raw/D, and 4/D
    cancels: the statistic is L/√raw. A cheap relative of the learned sampler of Kim et al. 2024 (2411.09998),
    which also follows the gradient's variance over timesteps, but trains a policy by further passes through the
    network. Draws are plain at first, as with `LossSecondMoment`. Needs a weighting that is not learned.
    """

    rule: Literal["gradient_norm"] = "gradient_norm"
    """In proportion to the root mean square of the gradient at the network's output."""

    def squares(self, raw: Tensor, loss: Tensor) -> Tensor:
        """L²/raw, 0 where raw is 0."""
        return torch.where(raw > 0, loss.square() / raw, 0.0)


_LEAST_SHARE = 0.1
"""Of an even share of the draws: less of it, and a bin's history is not waited for."""

ImportanceSpec = Annotated[NoImportance | LossSecondMoment | GradientNorm, Field(discriminator="rule")]


class Importance:
    """The rule as a state machine over histories: `init()`, `update(history, row)`, `ratios(history, active)`."""

    def __init__(self, spec: LossSecondMoment | GradientNorm) -> None:
        self.spec = spec
        self._borders = torch.arange(1, spec.bins, dtype=torch.float64) / spec.bins

    @property
    def width(self) -> int:
        """Length of a row."""
        return 2 * self.spec.bins

    def init(self) -> History:
        """No entries."""
        return ((),) * self.spec.bins

    def row(self, u: Tensor, raw: Tensor, loss: Tensor, parts: int) -> Tensor:
        """The contribution of one of a step's `parts` to its row (2·bins,): squares and counts of each bin.

        u: float64 (B,) on the CPU. raw, loss: (B,) on any device, unweighted and weighted. The mean of a row over the
        ranks is the global batch's.
        """
        place = torch.searchsorted(self._borders, u, right=True).to(loss.device, non_blocking=True)
        # Sums of half-precision numbers would stall.
        raw, loss = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (raw, loss))
        squares = self.spec.squares(raw, loss)
        pairs = torch.stack([squares, torch.ones_like(squares)], dim=1)
        row = torch.zeros(self.spec.bins, 2, dtype=pairs.dtype, device=pairs.device)
        return row.index_add_(0, place, pairs, alpha=1 / (len(u) * parts)).flatten()

    def update(self, history: History, row: Sequence[float]) -> History:
        """Read the row of a step; one that is not finite is ignored."""
        if not all(map(math.isfinite, row)):
            return history
        return tuple(
            (*(entries[1:] if len(entries) == self.spec.history else entries), square / count)
            if count > 0
            else entries
            for entries, square, count in zip(history, row[0::2], row[1::2], strict=True)
        )

    def ratios(self, history: History, masses: Sequence[float]) -> list[float] | None:
        """q_b·Σm / m_b for each bin, or None while the history of a bin with a share of the draws is not full.

        masses: m_b, relative; 0 for a bin that is not drawn, whose ratio is 1. So is that of a bin with less than a
        tenth of an even share, such as the sliver that a cluster cuts off, until its history is full: it may never be.
        """
        least = _LEAST_SHARE * math.fsum(masses) / self.spec.bins
        full = [
            mass > 0 and len(entries) == self.spec.history
            for entries, mass in zip(history, masses, strict=True)
        ]
        if any(mass > 0 and mass >= least and not known for mass, known in zip(masses, full, strict=True)):
            return None
        roots = [
            math.sqrt(sum(entries) / len(entries)) if known else 0.0
            for entries, known in zip(history, full, strict=True)
        ]
        weighed = math.fsum(mass * root for mass, root in zip(masses, roots, strict=True))
        known_mass = math.fsum(mass for mass, known in zip(masses, full, strict=True) if known)
        mean = weighed / known_mass if known_mass > 0 else 0.0
        if mean <= 0:
            return None
        epsilon = self.spec.uniform_prob
        return [
            (1 - epsilon) * root / mean + epsilon if known else 1.0
            for root, known in zip(roots, full, strict=True)
        ]
