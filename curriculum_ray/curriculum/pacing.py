"""Pacing rules as small state machines: `init()`, `advance(state, images)`, `update(state, loss, images)`.

A rule holds no state of its own; `PacingState` is all there is. Stages are counted from 0; the last stage is
ordinary training and never ends. `images` is the number of images seen so far, the step's own included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

__all__ = ["NormalizedPlateau", "Pacing", "PacingState", "Plateau", "Progress"]


@dataclass(frozen=True)
class PacingState:
    """Where a run is in its curriculum; JSON-safe through `dataclasses.asdict`."""

    stage: int = 0
    """The current stage, 0 is the first."""
    best: float | None = None
    """The lowest (smoothed) loss of this stage; None before its first loss."""
    waited: int = 0
    """Iterations or images since `best`, in the unit of the rule's patience."""
    smoothed: float | None = None
    """The running mean of the loss in this stage; None before its first loss."""
    seen: int | None = None
    """Images at the latest loss of this stage; None before it."""
    sums: tuple[float, ...] = ()
    """Sum of the losses of each cluster since the start, for normalisation."""
    counts: tuple[float, ...] = ()
    """Number of the losses of each cluster since the start."""


class Pacing(ABC):
    """What every rule offers. Rules that read no loss are pure functions of the images seen."""

    reads_losses: bool = False
    per_cluster: bool = False
    """Whether a loss is a row of per-cluster sums and counts rather than a mean."""

    @abstractmethod
    def init(self) -> PacingState:
        """The state before the first step."""

    @abstractmethod
    def advance(self, state: PacingState, images: int) -> PacingState:
        """Apply what the number of images alone decides; the same state where it decides nothing."""

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one step's loss, a row that holds the global batch's mean, and return the next state."""
        return self.advance(state, images)


@dataclass(frozen=True)
class Progress(Pacing):
    """A rule that reads the images seen and nothing else: fixed lengths and the published pacing families."""

    stage_at: Callable[[int], int]
    """Maps images seen to a stage; need not stay below `last`."""
    last: int
    """The last stage."""
    first: int = 0
    """The stage to start from."""
    finish: int | None = None
    """Images at which the last stage is forced."""

    def init(self) -> PacingState:
        """The stage at no images."""
        return self.advance(PacingState(), 0)

    def advance(self, state: PacingState, images: int) -> PacingState:
        """The stage at `images`."""
        done = self.finish is not None and images >= self.finish
        stage = self.last if done else min(max(self.stage_at(images), self.first), self.last)
        return state if stage == state.stage else replace(state, stage=stage)


@dataclass(frozen=True)
class Plateau(Pacing):
    """Move on when the loss has not improved for `patience` (Kim et al. 2025).

    With l_i the mean loss of iteration i and s the smoothing, within one stage:

        m_1 = l_1,   m_i = s·m_{i-1} + (1 - s)·l_i
        improved_i  =  m_i < best - min_delta;   then best <- m_i and waited <- 0
        otherwise waited <- waited + 1 (or + the images of the iteration)
        waited >= patience:  stage <- stage + 1, best <- infinity, waited <- 0, m forgotten

    `best` must be forgotten, because the mean loss rises when a harder cluster joins. A loss that is not
    finite is no improvement and leaves m alone. In the last stage nothing is decided any more.
    """

    patience: int
    """Iterations, or images where `in_images`, without improvement that end a stage; at least 1."""
    last: int
    """The last stage."""
    in_images: bool = False
    """Whether `patience` counts images rather than iterations."""
    smoothing: float = 0.0
    """s in [0, 1): the weight of the past in the running mean; 0 reads the raw loss."""
    min_delta: float = 0.0
    """How much lower than `best` counts as an improvement, in units of the loss; at least 0."""
    first: int = 0
    """The stage to start from."""
    finish: int | None = None
    """Images at which the last stage is forced."""

    reads_losses = True

    def init(self) -> PacingState:
        """The first stage, no loss seen."""
        return PacingState(stage=min(self.first, self.last))

    def advance(self, state: PacingState, images: int) -> PacingState:
        """Force the last stage at `finish` images."""
        if self.finish is None or images < self.finish or state.stage == self.last:
            return state
        return self._next_stage(state, self.last)

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one iteration's mean loss, a row of one value."""
        return self._read(state, loss[0], images)

    def _read(self, state: PacingState, loss: float, images: int) -> PacingState:
        if state.stage >= self.last:
            return state
        smoothed = state.smoothed
        if math.isfinite(loss):
            smoothed = loss if smoothed is None else self.smoothing * smoothed + (1 - self.smoothing) * loss
            if state.best is None or smoothed < state.best - self.min_delta:
                return replace(state, best=smoothed, waited=0, smoothed=smoothed, seen=images)
        passed = images - (images if state.seen is None else state.seen) if self.in_images else 1
        if state.waited + passed >= self.patience:
            return self._next_stage(state, state.stage + 1)
        return replace(state, waited=state.waited + passed, smoothed=smoothed, seen=images)

    @staticmethod
    def _next_stage(state: PacingState, stage: int) -> PacingState:
        return PacingState(stage=stage, sums=state.sums, counts=state.counts)


@dataclass(frozen=True)
class NormalizedPlateau(Plateau):
    """`Plateau` on losses divided by the running mean of their cluster, so that no cluster's scale matters.

    With S_c and n_c the sum and the number of all losses of cluster c so far, this iteration's included, and
    s_c the sum in this iteration:

        l_i = Σ_c s_c / (S_c / n_c)  /  (number of losses in the iteration)

    It starts near 1 for a cluster that joins, falls while a cluster is being learnt, and comes back to 1 as
    the running mean catches up with a loss that stands still.
    """

    per_cluster = True

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one iteration's row: for each of N clusters the sum and the number of its losses, interleaved."""
        if not all(map(math.isfinite, loss)):
            return self._read(state, math.nan, images)
        now, number = loss[0::2], loss[1::2]
        none = (0.0,) * len(now)
        sums = tuple(a + b for a, b in zip(state.sums or none, now, strict=True))
        counts = tuple(a + b for a, b in zip(state.counts or none, number, strict=True))
        scaled = [
            # A cluster whose losses are all 0 is at its mean.
            part * count / total if total > 0 else drawn
            for part, drawn, total, count in zip(now, number, sums, counts, strict=True)
        ]
        return self._read(replace(state, sums=sums, counts=counts), sum(scaled) / sum(number), images)
