"""Clusters: every timestep put where the definition says, every cut of a short line tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch

from curriculum_ray.curriculum import LogSnrClusters, Uniform, UniformClusters, cluster_edges
from curriculum_ray.curriculum.intervals import absolute_deviation, best_intervals, direction_spread
from curriculum_ray.diffusion.levels import DiscreteTimesteps
from published import Check, row
from published.processes import products


def log_snr(name: str, count: int = 1000) -> np.ndarray:
    """The log-SNR of each timestep."""
    alphas = products(name, count)
    return np.log(alphas) - np.log1p(-alphas)


def equal_width(values: np.ndarray, count: int) -> list[int]:
    """Timesteps in each of `count` intervals of equal log-SNR width; the tails beyond t = 5 and 995 join the ends.

    Intervals of less than a tenth of the even share grow at the cost of their noisier neighbours, or, where these give
    out, of their cleaner ones.
    """
    high, low = values[5], values[995]
    places = [min(max(int((high - value) / (high - low) * count), 0), count - 1) for value in values]
    sizes = [places.count(place) for place in range(count)]
    narrowest = math.ceil(len(values) / (10 * count))
    for place, neighbour in [(k, k + 1) for k in range(count - 1)] + [
        (k, k - 1) for k in range(count - 1, 0, -1)
    ]:
        lacking = max(narrowest - sizes[place], 0)
        sizes[place] += lacking
        sizes[neighbour] -= lacking
    return sizes


def least(cost: np.ndarray, count: int) -> float:
    """The least total cost over all ways to cut a line into `count` intervals."""
    n = len(cost)
    cuts = ([0, *inner, n] for inner in itertools.combinations(range(1, n), count - 1))
    return min(sum(cost[a, b - 1] for a, b in itertools.pairwise(cut)) for cut in cuts)


def checks() -> Iterator[Check]:
    """All of this file."""
    for name in ("linear", "cosine"):
        values = log_snr(name)
        levels = DiscreteTimesteps(torch.tensor(products(name, 1000)))
        for count in (3, 5, 20, 30):
            edges = cluster_edges(LogSnrClusters(by="log_snr", count=count), Uniform(), levels)
            counts = (edges.diff() * 1000).round()
            yield row(
                f"{count} log-SNR clusters, {name} betas",
                "equal width",
                counts,
                equal_width(values, count),
                0,
            )
    even = cluster_edges(
        UniformClusters(count=7), Uniform(), DiscreteTimesteps(torch.tensor(products("cosine", 1000)))
    )
    yield row(
        "7 uniform clusters", "Kim et al. 2025", (even * 1000).round(), np.round(np.arange(8) * 1000 / 7), 0
    )
    rng = np.random.default_rng(0)
    points = np.sort(rng.normal(size=12))
    cost = np.array([[np.abs(points[a : b + 1] - np.median(points[a : b + 1])).sum() if b >= a else np.inf
                      for b in range(12)] for a in range(12)])  # fmt: skip
    ours = absolute_deviation(torch.tensor(points))
    for count in (2, 4):
        cut = best_intervals(ours, count).tolist()
        total = sum(float(ours[a, b - 1]) for a, b in itertools.pairwise(cut))
        yield row(
            f"{count} intervals of least deviation",
            "Go et al. 2023 (ANT), all cuts",
            total,
            least(cost, count),
        )
    vectors = rng.normal(size=(10, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spread = np.array([[((vectors[a : b + 1] - vectors[a : b + 1].mean(0)) ** 2).sum() if b >= a else np.inf
                        for b in range(10)] for a in range(10)])  # fmt: skip
    ours = direction_spread(torch.tensor(vectors @ vectors.T), torch.ones(10, dtype=torch.float64))
    cut = best_intervals(ours, 3).tolist()
    total = sum(float(ours[a, b - 1]) for a, b in itertools.pairwise(cut))
    yield row("3 intervals of like gradients", "Go et al. 2023 (ANT), all cuts", total, least(spread, 3))
    levels = DiscreteTimesteps(torch.tensor(products("linear", 1000)))
    ends = (cluster_edges(LogSnrClusters(by="log_snr_dp", count=5), Uniform(), levels)[1:] * 1000).round() - 1
    # 152, 392, 622, 821 of another implementation costs 781.7436, these 781.7405.
    yield row("5 ANT clusters, linear betas", "Go et al. 2023 (ANT)", ends, [152, 393, 623, 822, 999], 0)
