"""Clusters: N intervals of u that cover [0, 1) without gap or overlap; the first is the cleanest.

No cluster is narrower than a tenth of its even share, 1/(10N), unless its edges are written out: a curriculum
trains on its first cluster alone until it moves on, and must not do so on a single timestep. Edges that a rule
puts closer are moved apart, in one pass from the clean end, and back from the noisy end where there is no room.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from curriculum_ray.config import ConfigError, FilePath, Spec
from curriculum_ray.curriculum.base import BaseSpec, level_of
from curriculum_ray.curriculum.base.core import Quantile
from curriculum_ray.curriculum.cells import applying, boundaries, translate
from curriculum_ray.curriculum.curve import DifficultyCurve
from curriculum_ray.curriculum.intervals import (
    absolute_deviation,
    best_intervals,
    direction_spread,
    snap,
    spread,
)
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = [
    "ClustersSpec",
    "CurveClusters",
    "ExplicitClusters",
    "GradientClusters",
    "LogSnrClusters",
    "UniformClusters",
    "cluster_edges",
]

# Number of equally likely cells of u for continuous levels; the end cells stand for infinite tails.
GRID = 1000
# The share of levels at each end whose log-SNR is clipped before the range is cut: the last step of clipped cosine
# betas alone would take up 7 of 30.
END_SHARE = 0.005
# The narrowest cluster, as a share of the even width 1/N.
NARROWEST = 0.1
# Limit of pairs of cells times clusters: some seconds.
_MOST_COMPARED = 400_000_000


class _Counted(Spec):
    count: int = Field(default=20, ge=1, le=1000)
    """Number of clusters N; at most the number of timesteps."""


class UniformClusters(_Counted):
    """Equal shares of u: equally many timesteps each under a uniform base distribution."""

    by: Literal["uniform"] = "uniform"
    """Equal shares of u."""


class LogSnrClusters(_Counted):
    """Clusters by log-SNR: of equal width, or the intervals that hug their centres best (ANT).

    The log-SNR of the cleanest 0.5% of the levels counts as that of the quantile u = 0.005, and that of the noisiest
    0.5% as that of u = 0.995: the first and the last cluster take these tails. Between the two quantiles
    all clusters are equally wide, except those that would be narrower than a tenth of their even share in u.
    """

    by: Literal["log_snr", "log_snr_dp"]
    """log_snr: equal width in log-SNR. log_snr_dp: least sum of |log-SNR - centre| (Go et al. 2023)."""


class CurveClusters(_Counted):
    """Equal shares of the cumulative difficulty of a measured curve, as far as the narrowest width allows.

    Where the curve is so steep that a share is narrower than a tenth of 1/N (the relative entropy of images at the
    clean end), the cluster has that width and holds more than its share.
    """

    by: Literal["relative_entropy", "loss", "convergence"]
    """The kind of the curve whose cumulative difficulty is shared out equally."""
    difficulty: FilePath
    """Path of the difficulty file, of the same kind."""


class GradientClusters(_Counted):
    """Intervals whose gradients point the same way: least squared distance to the mean direction (ANT)."""

    by: Literal["gradient"] = "gradient"
    """By the pairwise similarity of gradients."""
    difficulty: FilePath
    """Path of a difficulty file of kind gradient with a similarity matrix."""


class ExplicitClusters(Spec):
    """Clusters between given edges."""

    by: Literal["explicit"] = "explicit"
    """By given edges."""
    edges: tuple[float, ...] = Field(min_length=2, max_length=1001)
    """The N + 1 edges in u, strictly ascending from 0 (clean) to 1 (noise)."""

    @property
    def count(self) -> int:
        """Number of clusters N."""
        return len(self.edges) - 1

    @model_validator(mode="after")
    def _check(self) -> ExplicitClusters:
        pairs = zip(self.edges, self.edges[1:], strict=False)
        if self.edges[0] != 0 or self.edges[-1] != 1 or any(b <= a for a, b in pairs):
            raise ValueError(f"edges must rise strictly from 0 to 1, but got {list(self.edges)}")
        return self


ClustersSpec = Annotated[
    UniformClusters | LogSnrClusters | CurveClusters | GradientClusters | ExplicitClusters,
    Field(discriminator="by"),
]


def cluster_edges(spec: ClustersSpec, base: BaseSpec, levels: NoiseLevels) -> Tensor:
    """The clusters' edges: float64 (N + 1,), strictly ascending from exactly 0 (clean) to exactly 1 (noise).

    Where levels are discrete, edges lie on the borders of the levels' cells, so that each timestep belongs to
    exactly one cluster. Each is at least a tenth of 1/N wide, unless its edges are written out, or cells are too
    coarse and uneven for that. Raises `ConfigError` for more clusters than timesteps, for a difficulty file that
    is missing, malformed or of another kind, and where the log-SNR is needed but not known.
    """
    grid = torch.linspace(0, 1, GRID + 1, dtype=torch.float64)
    _check_levels(base, levels, grid[:-1])
    discrete = levels.count is not None
    if discrete:
        # Levels that the base distribution never draws have empty cells, and take no part.
        grid = boundaries(base, levels).unique()
    if spec.count > len(grid) - 1:
        what = f"the {len(grid) - 1} timesteps that can be drawn" if discrete else f"the grid's {GRID} cells"
        raise ConfigError(f"clusters.count must be at most {what}, but got {spec.count}")
    targets = _targets(spec, base, levels, grid)
    if isinstance(spec, ExplicitClusters):
        return snap(targets, grid) if discrete else spread(targets)
    least = NARROWEST / spec.count
    return snap(targets, grid, least) if discrete else spread(targets, least)


def _check_levels(base: BaseSpec, levels: NoiseLevels, u: Tensor) -> None:
    """ConfigError for a base so extreme that its levels overflow or underflow."""
    for each in base.distributions():
        level = level_of(each, u, levels).float()
        positive = levels.kind != "sigma" or bool((level > 0).all())
        number = not isinstance(each, Quantile) or not bool(each.quantile(u).isnan().any())
        if not (positive and number and bool(level.isfinite().all())):
            raise ConfigError(
                f"base {each.kind} is too extreme for {levels.kind} levels, which overflow or underflow: {each!r}"
            )


def _targets(spec: ClustersSpec, base: BaseSpec, levels: NoiseLevels, grid: Tensor) -> Tensor:
    """The desired edges, before they move to the borders of cells; float64 (N + 1,), ascending."""
    if isinstance(spec, ExplicitClusters):
        return torch.tensor(spec.edges, dtype=torch.float64)
    even = torch.arange(spec.count + 1, dtype=torch.float64) / spec.count
    if isinstance(spec, UniformClusters):
        return even
    if isinstance(spec, LogSnrClusters):
        log_snr = _log_snr_of_cells(base, levels, grid)
        if spec.count > 1 and log_snr[0] == log_snr[-1]:
            raise ConfigError(
                f"clusters by log_snr need levels of more than one finite log-SNR, but base {base.kind} has "
                f"{float(log_snr[0]):.3g} alone on {levels.kind} levels: {base!r}"
            )
        if spec.by == "log_snr_dp":
            if len(log_snr) ** 2 * spec.count > _MOST_COMPARED:
                raise ConfigError(
                    f"clusters.by log_snr_dp compares all pairs of timesteps for each cluster, too many with "
                    f"{len(log_snr):,} timesteps and {spec.count} clusters: choose fewer, or log_snr"
                )
            return grid[best_intervals(absolute_deviation(log_snr), spec.count)]
        bounds = log_snr[0] + even[1:-1] * (log_snr[-1] - log_snr[0])
        inner = torch.searchsorted(-log_snr, -bounds, right=True)
        return torch.cat([grid[:1], grid[inner], grid[-1:]])
    curve = DifficultyCurve.from_file(spec.difficulty)
    if curve.kind != spec.by:
        raise ConfigError(
            f"clusters.by must be the kind of {spec.difficulty}, {curve.kind}, but got {spec.by}"
        )
    edges = torch.tensor(curve.u, dtype=torch.float64)
    if isinstance(spec, CurveClusters):
        cumulative = torch.tensor((0.0, *curve.shares()), dtype=torch.float64).cumsum(0)
        chosen = _interpolate(even, cumulative / cumulative[-1].clone(), edges)
    else:
        chosen = edges[_gradient_intervals(curve, spec)]
    with applying(f"{spec.difficulty}: its base {curve.base.kind}", levels):
        return translate(chosen, curve.base, base, levels)


def _log_snr_of_cells(base: BaseSpec, levels: NoiseLevels, grid: Tensor) -> Tensor:
    """The log-SNR of each cell of the grid, falling, clipped at the quantiles `END_SHARE` and 1 - `END_SHARE`.

    An infinite one, possible at a quantile with few timesteps, counts as its finite neighbour.
    """
    middles = (grid[1:] + grid[:-1]) / 2
    ends = torch.tensor([1 - END_SHARE, END_SHARE], dtype=torch.float64)
    log_snr = levels.log_snr(level_of(base, torch.cat([ends, middles]), levels)).double()
    finite = log_snr[log_snr.isfinite()]
    if len(finite) == 0:
        raise ConfigError(
            f"clusters by log_snr need finite log-SNRs, but base {base.kind} has none on {levels.kind} levels: {base!r}"
        )
    log_snr = log_snr.clamp(float(finite.min()), float(finite.max()))
    return log_snr[2:].clamp(float(log_snr[0]), float(log_snr[1]))


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear through (xs, ys), both ascending; flat parts of xs give their first point."""
    # np.interp gives the last point of a flat part.
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share.nan_to_num(0.0).clamp(0, 1) * (ys[right] - ys[right - 1])


def _gradient_intervals(curve: DifficultyCurve, spec: GradientClusters) -> Tensor:
    if curve.similarity is None:
        raise ConfigError(f"clusters.by gradient needs a similarity matrix, but {spec.difficulty} has none")
    bins = len(curve.difficulty)
    if spec.count > bins:
        what = f"{bins}, the bins of {spec.difficulty}"
        raise ConfigError(f"clusters.count must be at most {what}, but got {spec.count}")
    widths = torch.tensor(curve.u, dtype=torch.float64).diff()
    similarity = torch.tensor(curve.similarity, dtype=torch.float64)
    return best_intervals(direction_spread(similarity, widths), spec.count)
