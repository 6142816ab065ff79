"""Runs that take their steps together, until each of them has ended; runs that are behind catch up first."""

from __future__ import annotations

from collections.abc import Sequence

from curriculum_ray.training.hooks import End
from curriculum_ray.training.trainer import Trainer

__all__ = ["Lockstep"]


class Lockstep:
    """K >= 1 runs of equal batch, budget and intervals.

    Members that have seen fewer images than others, because they were restored from older checkpoints, catch up first.
    """

    def __init__(self, members: Sequence[Trainer]) -> None:
        self.members = list(members)
        self.ended: list[End | None] = [None] * len(self.members)
        """How each run ended, None while it trains."""

    @property
    def training(self) -> list[int]:
        """Indices of the members that are still training."""
        return [place for place, end in enumerate(self.ended) if end is None]

    @property
    def images(self) -> int:
        """Images seen by the members that take the next step: the fewest of all that are still training."""
        return min(self.members[place].images for place in self.training)

    @property
    def active(self) -> list[int]:
        """Indices of the members that take the next step."""
        images = self.images
        return [place for place in self.training if self.members[place].images == images]

    def step(self) -> None:
        """One optimiser step of every active member."""
        for place in self.active:
            self.members[place].step()
