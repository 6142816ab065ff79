"""Metrics: which direction is better, and how to write numbers."""

from __future__ import annotations

import math
from typing import Literal

from curriculum_ray.config import ConfigError

__all__ = ["DIRECTIONS", "MARGIN", "count", "direction", "gain", "metric_name", "number", "within"]

DIRECTIONS: dict[str, Literal["min", "max"]] = {
    "fid": "min",
    "kid": "min",
    "precision": "max",
    "recall": "max",
    "loss": "min",
}
"""Whether a smaller or a larger value of a metric is better."""
MARGIN = 0.02
"""The margin of practical equivalence, where a study sets no other: a share of uniform sampling's metric."""


def direction(metric: str) -> Literal["min", "max"]:
    """Return whether a smaller or a larger `metric` is better; an unknown one raises `ConfigError`."""
    if metric not in DIRECTIONS:
        raise ConfigError(f"metric must be one of {', '.join(DIRECTIONS)}, but got {metric!r}")
    return DIRECTIONS[metric]


def metric_name(metric: str) -> str:
    """Return the metric as written in tables: FID and KID are abbreviations."""
    return metric.upper() if metric in ("fid", "kid") else metric


def count(images: float) -> str:
    """Write a number of images briefly: 640, 77k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if images >= size:
            value = images / size
            return f"{value:.0f}{letter}" if value >= 10 else f"{value:.3g}{letter}"
    return f"{images:.0f}"


def number(value: float | None) -> str:
    """Write a metric with about three figures; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    for least, decimals in ((100, 1), (1, 2), (0.1, 3)):
        if abs(value) >= least:
            return f"{value:.{decimals}f}"
    return f"{value:.3g}"


def gain(value: float, uniform: float, metric: str) -> float:
    """Return by how many percent of `uniform` the value is better (positive) or worse than it."""
    sign = 1 if direction(metric) == "min" else -1
    return 100 * sign * (uniform - value) / abs(uniform) if uniform else math.nan


def within(margin: float) -> str:
    """Write a margin: ±2%."""
    return f"±{100 * margin:.3g}%"
