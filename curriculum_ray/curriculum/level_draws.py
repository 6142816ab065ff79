"""Maps places in [0, 1) to noise levels: the active part of one base distribution, or of a blend of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base import BaseSpec, Changing, FixedBase
from curriculum_ray.curriculum.cells import Translation, inner_cells
from curriculum_ray.curriculum.draws import ActiveMap, Rearrangement, merge
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["Drawn", "LevelDraws"]


class Drawn(NamedTuple):
    """The draws of a batch."""

    levels: Tensor
    """Native noise levels (B,): long timesteps or float32."""
    u: Tensor
    """Their u, float64 (B,), in [0, 1), 1 is noise; that of the first distribution where the base changes."""
    base_weights: Tensor | None
    """The base's own weight of each loss (SpeeD), float32 (B,), or None where all are 1."""
    importance_weights: Tensor | None
    """The weight of each loss that makes up for importance, float32 (B,), or None without it."""

    @property
    def weights(self) -> Tensor | None:
        """The weight to multiply each loss by, float32 (B,), or None where all weights are 1."""
        if self.base_weights is None or self.importance_weights is None:
            return self.importance_weights if self.base_weights is None else self.base_weights
        return self.base_weights * self.importance_weights

    def to(self, device: torch.device | str) -> Drawn:
        """The same with all but u on a device, which is not waited for."""
        weights = (self.base_weights, self.importance_weights)
        moved = (None if each is None else each.to(device, non_blocking=True) for each in weights)
        return Drawn(self.levels.to(device, non_blocking=True), self.u, *moved)


class LevelDraws:
    """Draws noise levels from the active part of a base distribution.

    With d(level) the density of a level's cluster and r(level) that of its importance, both relative, a level is drawn
    with density d·r·((1-w)·f_first + w·f_then), renormalised, where w is the share of the second distribution at this
    image count (0 if the base does not change). The edges of clusters and of importance are fixed noise levels:
    given in the u of the first distribution, and translated to that of the second. A blend draws the first places from
    the first and the rest from the second, in proportion to (1-w)·Z_first and w·Z_then, Z the active mass: this is
    exactly the mixture, stratified within each part, without the inverse of the mixture's F.

    Weights are those of the base (SpeeD) times the density without r over that with r, so that a weighted loss has the
    same expectation as without importance.

    edges: the clusters' edges, float64 (N + 1,), from 0 to 1 in the u of the (first) distribution. total_images: the
    budget, for changes at a share of it. bins: number of equal parts of u, for the importance in `aim`.

    Raises ConfigError where a distribution does not apply to `levels`, or never draws some cluster.
    """

    def __init__(
        self,
        base: BaseSpec,
        levels: NoiseLevels,
        edges: Tensor,
        total_images: int | None = None,
        bins: int = 1,
    ) -> None:
        self.edges: list[float] = edges.tolist()
        cuts = torch.arange(1, bins, dtype=torch.float64) / bins
        pieces = torch.cat([edges, cuts]).unique() if bins > 1 else edges
        middles = (pieces[1:] + pieces[:-1]) / 2
        self._cluster_of = torch.searchsorted(edges[1:-1].contiguous(), middles).tolist()
        self._bin_of = torch.searchsorted(cuts, middles).tolist()
        self._pieces = pieces
        self._parts = [_Part(each, base, levels, pieces) for each in base.distributions()]
        self._base, self._total_images = base, total_images
        self._start, self._length = base.span(total_images) if isinstance(base, Changing) else (0, 0)
        for part in self._parts:
            self._check(part, edges)
        self.aim([1.0] * (len(self.edges) - 1))

    def _check(self, part: _Part, edges: Tensor) -> None:
        widths = torch.zeros(len(edges) - 1, dtype=torch.float64)
        widths.index_add_(0, torch.tensor(self._cluster_of), part.edges.diff())
        if float(widths.min()) <= 0:
            raise ConfigError(
                f"base {part.base.describe()} never draws the noise levels of cluster {int(widths.argmin())} "
                f"of {len(widths)}: choose fewer clusters or a wider distribution"
            )

    def aim(self, densities: Sequence[float], importance: Sequence[float] | None = None) -> None:
        """Set the clusters' relative densities, and r > 0 for each of the bins, or None for no importance."""
        plain = [densities[cluster] for cluster in self._cluster_of]
        self._importance = None
        self._densities = plain
        if importance is not None:
            ratios = [importance[place] for place in self._bin_of]
            self._densities = [density * ratio for density, ratio in zip(plain, ratios, strict=True)]
            self._importance = torch.tensor(ratios, dtype=torch.float64)
        self.intervals = merge(self.edges, densities)
        for part in self._parts:
            part.aim(self._densities, plain)

    def bin_masses(self, densities: Sequence[float], images: int = 0) -> list[float]:
        """The mass of each of the bins with these relative densities of the clusters, without importance.

        images: seen, on which a base that changes depends.
        """
        share = self.share(images)
        masses = [0.0] * (max(self._bin_of) + 1)
        for part, weight in zip(self._parts, (1 - share, share), strict=False):
            for cluster, place, width in zip(
                self._cluster_of, self._bin_of, part.edges.diff().tolist(), strict=True
            ):
                masses[place] += weight * densities[cluster] * width
        return masses

    @property
    def weighs(self) -> bool:
        """Whether the base itself has weights, with or without importance."""
        return any(part.loss_weights is not None for part in self._parts)

    def share(self, images: int) -> float:
        """w: the share of the second distribution after `images` images, in [0, 1]."""
        return _share(images, self._start, self._length) if len(self._parts) > 1 else 0.0

    def check_budget(self, total_images: int | None, images: int) -> None:
        """Refuse to go on after `images` images of a run with another budget where the first distribution would return.

        total_images: the budget of that run.
        """
        if total_images == self._total_images or not isinstance(self._base, Changing):
            return
        before, now = _share(images, *self._base.span(total_images)), self.share(images)
        if now < before:
            raise ConfigError(
                f"the sampler's state has total_images {total_images}, of which the base has changed by {before:.3g} "
                f"after {images:,} images, but {self._total_images} would take it back to {now:.3g}"
            )

    def turns(self, count: int = 16) -> list[int]:
        """The images at which the distribution changes; a blend counts as `count` pieces."""
        if len(self._parts) == 1:
            return []
        return sorted({self._start + self._length * piece // count for piece in range(count + 1)})

    def draw(self, u01: Tensor, images: int) -> Drawn:
        """Map places u01, float64 (B,), each in [0, 1), to the noise levels drawn after `images` images."""
        share = self.share(images)
        if share == 0 or share == 1:
            part = self._parts[int(share)]
            return self._drawn(part, part.active(u01), part.mass / part.plain_mass)
        first, then = self._parts
        a, b = (1 - share) * first.mass, share * then.mass
        scale = (a + b) / ((1 - share) * first.plain_mass + share * then.plain_mass)
        border = a / (a + b)
        below = u01 < border
        # Rounding may reach 1, which is excluded.
        most = 1 - 2.0**-53
        drawn = [
            self._drawn(part, part.active(places.clamp(max=most), paired=False), scale)
            for part, places in (
                (first, u01[below] / border),
                (then, (u01[~below] - border) / (1 - border)),
            )
        ]
        return Drawn(
            levels=_scatter(below, *(each.levels for each in drawn)),
            u=_scatter(below, *(each.u for each in drawn)),
            base_weights=_scatter_weights(below, *(each.base_weights for each in drawn)),
            importance_weights=_scatter_weights(below, *(each.importance_weights for each in drawn)),
        )

    def _drawn(self, part: _Part, u: Tensor, scale: float) -> Drawn:
        level = part.level(u)
        base = None if part.loss_weights is None else part.loss_weights[level]
        importance = None
        if self._importance is not None:
            piece = torch.searchsorted(part.inner, u, right=True)
            importance = (scale / self._importance[piece]).float()
        return Drawn(level, part.first_u(u), base, importance)

    def density(self, edges: Tensor, images: int) -> Tensor:
        """How densely each interval between `edges` of u is drawn after `images` images; 1 is uniform in u.

        edges: float64 (K + 1,), from 0 to 1. u: that of the first distribution where the base changes.
        """
        grid = torch.cat([edges, self._pieces]).unique()
        middles = (grid[1:] + grid[:-1]) / 2
        piece = torch.searchsorted(self._pieces[1:-1].contiguous(), middles)
        density = torch.tensor(self._densities, dtype=torch.float64)[piece]
        share = self.share(images)
        mass = sum(
            weight * density * part.carried(grid).diff()
            for weight, part in zip((1 - share, share), self._parts, strict=False)
        )
        assert isinstance(mass, Tensor)
        place = torch.searchsorted(edges[1:-1].contiguous(), middles)
        total = torch.zeros(len(edges) - 1, dtype=torch.float64).index_add_(0, place, mass / mass.sum())
        return total / edges.diff()


class _Part:
    """One distribution, with the pieces that have densities translated to its own u."""

    def __init__(self, base: FixedBase, reference: BaseSpec, levels: NoiseLevels, pieces: Tensor) -> None:
        self.base, self._levels = base, levels
        self._cells = inner_cells(base, levels)
        first = reference.distributions()[0]
        self._carry = None if base == first else Translation(first, base, levels)
        self._back = None if base == first else Translation(base, first, levels)
        self.edges = self.carried(pieces)
        self.inner = self.edges[1:-1].contiguous()
        self._lows, highs = pieces[:-1], pieces[1:]
        self._caps = torch.nextafter(highs, torch.zeros_like(highs))
        weights = base.loss_weights(levels)
        self.loss_weights = None if weights is None else weights.float()
        pairing = base.pairing(levels)
        self._pairs = None if pairing is None else Rearrangement(pairing)

    def carried(self, u: Tensor) -> Tensor:
        """Edges, from 0 to 1 in the first distribution's u, in the u of this one."""
        if self._carry is None:
            return u
        carried = self._carry(u).cummax(0).values
        # Levels at the ends that the first one never draws belong to its outermost clusters.
        carried[0], carried[-1] = 0.0, 1.0
        return carried

    def aim(self, densities: Sequence[float], plain: Sequence[float]) -> None:
        """Make the map for these densities of the pieces, and keep their mass with and without importance."""
        edges = self.edges.tolist()
        self._map = ActiveMap(edges, densities)
        self.mass = self._map.mass
        self.plain_mass = self.mass if plain is densities else ActiveMap(edges, plain).mass
        self._whole = len(self._map.intervals) == 1 and self._map.intervals[0][:2] == (0.0, 1.0)

    def active(self, u01: Tensor, paired: bool = True) -> Tensor:
        """Places in [0, 1) as this distribution's u, within its active part."""
        if paired and self._pairs is not None and self._whole:
            return self._pairs(u01)
        return self._map(u01)

    def level(self, u: Tensor) -> Tensor:
        """This distribution's u as native levels: long, or float32."""
        if self._cells is not None:
            return torch.searchsorted(self._cells, u, right=True)
        return self.base.to_levels(u, self._levels).to(torch.float32)

    def first_u(self, u: Tensor) -> Tensor:
        """This distribution's u as the first one's, within the piece that it was drawn for."""
        if self._back is None:
            return u
        piece = torch.searchsorted(self.inner, u, right=True)
        return self._back(u).maximum(self._lows[piece]).minimum(self._caps[piece])


def _share(images: int, start: int, length: int) -> float:
    """The share in [0, 1] of the second distribution where it begins to replace the first at `start` images.

    length: of the change in images, 0 for a step.
    """
    if images < start:
        return 0.0
    return min((images - start) / length, 1.0) if length else 1.0


def _scatter_weights(first: Tensor, mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
    """As `_scatter`, with 1 for the weights that a side lacks; None where both do."""
    if mine is None and theirs is None:
        return None
    count = int(first.sum())
    return _scatter(
        first,
        torch.ones(count) if mine is None else mine,
        torch.ones(len(first) - count) if theirs is None else theirs,
    )


def _scatter(first: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """One tensor that is `mine` where `first` holds and `theirs` elsewhere, each in its own sequence."""
    result = torch.empty(len(first), dtype=mine.dtype)
    result[first], result[~first] = mine, theirs
    return result
