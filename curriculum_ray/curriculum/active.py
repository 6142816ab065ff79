"""Active sets: how densely each cluster is drawn at each stage of a curriculum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from curriculum_ray.config import Spec

__all__ = ["ActiveSpec", "CumulativeSet", "NewestWeightedSet", "WindowSet"]


class _Active(Spec, ABC):
    floor: float = Field(default=0.0, ge=0.0, le=1.0)
    """Density of inactive clusters relative to active ones: 0 is the paper, 1 is no curriculum."""

    @abstractmethod
    def num_stages(self, count: int) -> int:
        """The number of stages for `count` clusters; the last one is ordinary training on all of them."""

    @abstractmethod
    def densities(self, order: Sequence[int], stage: int) -> list[float]:
        """Relative density of each cluster 0 (cleanest) .. N-1 (noisiest) at `stage`, 0 is the first stage.

        order: the clusters in the order in which they join. At least one density is 1 or more.
        """


class CumulativeSet(_Active):
    """Stage n draws from the first n + 1 clusters that joined (Kim et al. 2025)."""

    set: Literal["cumulative"] = "cumulative"
    """All clusters that have joined."""

    def num_stages(self, count: int) -> int:
        """One stage per cluster."""
        return count

    def densities(self, order: Sequence[int], stage: int) -> list[float]:
        """1 for the clusters that have joined, the floor for the others."""
        return _spread(order, [1.0] * (stage + 1), self.floor)


class WindowSet(_Active):
    """Stage n draws from the newest `width` clusters; a last stage after them draws from all."""

    set: Literal["window"] = "window"
    """The newest clusters only."""
    width: int = Field(ge=1)
    """How many of the newest clusters are active."""

    def num_stages(self, count: int) -> int:
        """One stage per cluster and one of ordinary training, unless the window holds all clusters anyway."""
        return count + 1 if self.width < count else count

    def densities(self, order: Sequence[int], stage: int) -> list[float]:
        """1 for the newest clusters, the floor for the others; 1 for all after the last cluster."""
        if stage >= len(order):
            return [1.0] * len(order)
        left = max(0, stage + 1 - self.width)
        return _spread(order, [self.floor] * left + [1.0] * (stage + 1 - left), self.floor)


class NewestWeightedSet(_Active):
    """Cumulative, with extra weight on the newest cluster; a last stage after them draws from all equally."""

    set: Literal["newest_weighted"] = "newest_weighted"
    """All clusters that have joined, the newest more densely."""
    newest_weight: float = Field(default=2.0, ge=1.0, le=1000.0)
    """Density of the newest cluster relative to the other active ones."""

    def num_stages(self, count: int) -> int:
        """One stage per cluster and one of ordinary training."""
        return count + 1 if count > 1 else 1

    def densities(self, order: Sequence[int], stage: int) -> list[float]:
        """`newest_weight` for the newest, 1 for those before it, the floor for those to come."""
        if stage >= len(order) or len(order) == 1:
            return [1.0] * len(order)
        return _spread(order, [1.0] * stage + [self.newest_weight], self.floor)


ActiveSpec = Annotated[CumulativeSet | WindowSet | NewestWeightedSet, Field(discriminator="set")]


def _spread(order: Sequence[int], joined: Sequence[float], floor: float) -> list[float]:
    """Densities by cluster, given those of the clusters that have joined, in their order."""
    densities = [floor] * len(order)
    for cluster, density in zip(order, joined, strict=False):
        densities[cluster] = density
    return densities
