"""Draws of u in [0, 1), 1 is noise: pure functions of seed, images, place and densities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from curriculum_ray.splitmix import mix, splitmix64

__all__ = [
    "ActiveMap",
    "IndependentPlaces",
    "Rearrangement",
    "StratifiedPlaces",
    "merge",
    "offset",
    "positions",
]


def offset(seed: int, images: int) -> float:
    """A number in [0, 1) that depends on (seed, images) only, by two rounds of SplitMix64."""
    return (splitmix64(splitmix64(seed) ^ images) >> 11) * 2.0**-53


def positions(batch: int, part: int, parts: int) -> Tensor:
    """The places k/B of one part's samples in a global batch of B = batch·parts, k = part + parts·j.

    Together the parts hold k = 0 .. B-1 once each, so any number of ranks draws the same as one rank. float64
    (batch,).
    """
    return (part + parts * torch.arange(batch, dtype=torch.float64)) / (batch * parts)


class StratifiedPlaces:
    """The stratified places in [0, 1) of one rank's micro-batches: frac(k/B + offset(seed, images))."""

    def __init__(self, seed: int, rank: int, world_size: int, accumulation: int) -> None:
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._parts = world_size * accumulation
        self._positions: Tensor | None = None
        self._positions_of = (0, 0)

    def __call__(self, batch: int, micro: int, images: int) -> Tensor:
        """The places of micro-batch `micro`, from 0, of a step that starts after `images` images; float64 (batch,)."""
        if self._positions_of != (batch, micro) or self._positions is None:
            self._positions = positions(batch, self._rank + self._world_size * micro, self._parts)
            self._positions_of = (batch, micro)
        return (self._positions + offset(self._seed, images)).frac_()


class IndependentPlaces:
    """Independent places in [0, 1) of one rank's micro-batches, as `torch.rand` draws them; equal for any number of
    ranks and parts of the same global batch.
    """

    def __init__(self, seed: int, rank: int, world_size: int, accumulation: int) -> None:
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._parts = world_size * accumulation

    def __call__(self, batch: int, micro: int, images: int) -> Tensor:
        """The places of micro-batch `micro`, from 0, of a step that starts after `images` images; float64 (batch,)."""
        generator = torch.Generator().manual_seed(mix(self._seed, images))
        every = torch.rand(batch * self._parts, dtype=torch.float64, generator=generator)
        return every[self._rank + self._world_size * micro :: self._parts].contiguous()


class Rearrangement:
    """A map of [0, 1) onto itself that exchanges pieces and keeps their widths: places ½ apart become pairs.

    pieces: float64 (3, M), the start of each piece before and after the move, the former ascending from 0, and the end
    of its new cell, which rounding must not reach.
    """

    def __init__(self, pieces: Tensor) -> None:
        places, targets, ends = pieces.unbind()
        self._borders = places[1:].contiguous()
        self._places, self._lows = places, targets
        self._caps = torch.nextafter(ends, torch.zeros_like(ends))

    def __call__(self, u01: Tensor) -> Tensor:
        """Map u01, float64 (B,), each in [0, 1)."""
        piece = torch.searchsorted(self._borders, u01, right=True)
        moved = (u01 - self._places[piece]) + self._lows[piece]
        return torch.minimum(moved, self._caps[piece])


class ActiveMap:
    """The piecewise linear map from u01 in [0, 1) to the active part of u: the truncated distribution.

    edges: the clusters' edges, ascending from 0 to 1. densities: relative density of each cluster, >= 0, not
    all 0. Cluster c gets the share density_c·width_c / Σ of the draws, uniform within it: truncated and
    renormalised. `mass` is that Σ, `intervals` the active (low, high, density).
    """

    def __init__(self, edges: Sequence[float], densities: Sequence[float]) -> None:
        assert len(edges) == len(densities) + 1
        assert max(densities) > 0
        self.intervals = merge(edges, densities)
        masses = [density * (b - a) for a, b, density in self.intervals]
        self.mass = total = math.fsum(masses)
        starts = [math.fsum(masses[:i]) / total for i in range(len(masses))]
        low, high, _ = self.intervals[0]
        # One unit in the last place less keeps low + width·u01 below `high`, however it is rounded.
        width = high - low - math.ulp(high) if (low, high) != (0.0, 1.0) else 1.0
        self._single = (low, width) if len(masses) == 1 else None
        self._borders = torch.tensor(starts[1:], dtype=torch.float64)
        self._starts = torch.tensor(starts, dtype=torch.float64)
        self._lows = torch.tensor([low for low, _, _ in self.intervals], dtype=torch.float64)
        self._slopes = torch.tensor(
            [total / density for _, _, density in self.intervals], dtype=torch.float64
        )
        # Rounding may reach an interval's open end: the largest number below it is the cap.
        caps = [math.nextafter(high, 0) for _, high, _ in self.intervals]
        self._caps = torch.tensor(caps, dtype=torch.float64)

    def __call__(self, u01: Tensor) -> Tensor:
        """Map u01, float64 (B,), each in [0, 1)."""
        if self._single is not None:
            low, width = self._single
            # Two operations, which round the same everywhere: a fused one depends on the vector length.
            return u01 if width == 1.0 else u01.mul(width).add_(low)
        index = torch.searchsorted(self._borders, u01, right=True)
        offsets = (u01 - self._starts.index_select(0, index)).mul_(self._slopes.index_select(0, index))
        u = offsets.add_(self._lows.index_select(0, index))
        return torch.minimum(u, self._caps.index_select(0, index))


def merge(edges: Sequence[float], densities: Sequence[float]) -> list[tuple[float, float, float]]:
    """Neighbouring clusters of one density as one (low, high, density); those of density or width 0 left out."""
    merged: list[tuple[float, float, float]] = []
    for low, high, density in zip(edges, edges[1:], densities, strict=False):
        if density > 0 and high > low:
            if merged and merged[-1][1:] == (low, density):
                merged[-1] = (merged[-1][0], high, density)
            else:
                merged.append((low, high, density))
    return merged
