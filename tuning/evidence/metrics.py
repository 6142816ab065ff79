"""Metrics: which direction is better, and how to write numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from curriculum_ray.config import ConfigError

__all__ = [
    "DIRECTIONS",
    "MARGIN",
    "count",
    "direction",
    "in_order",
    "is_metric",
    "is_positive",
    "metric_name",
    "number",
    "percent",
    "within",
]

DIRECTIONS: dict[str, Literal["min", "max"]] = {
    "fid": "min",
    "kid": "min",
    "precision": "max",
    "recall": "max",
    "inception_score": "max",
    "clip_score": "max",
    "loss": "min",
}
"""Whether a smaller or a larger value of a metric is better."""
_POSITIVE = frozenset({"fid", "inception_score", "loss"})
"""Metrics above 0 whose noise grows with them."""
_ABBREVIATED = {"fid": "FID", "kid": "KID", "inception_score": "IS", "clip_score": "CLIP score"}
_AT = "_at_"
"""Between the name of a metric and the scale of guidance at which a model is scored besides the first."""
MARGIN = 0.02
"""The margin of practical equivalence, where a study sets no other: a share of uniform sampling's metric."""


def direction(metric: str) -> Literal["min", "max"]:
    """Return whether a smaller or a larger `metric` is better; an unknown one raises `ConfigError`."""
    if not is_metric(metric):
        raise ConfigError(f"metric must be one of {', '.join(DIRECTIONS)}, but got {metric!r}")
    return DIRECTIONS[_kind(metric)]


def is_metric(name: str) -> bool:
    """Whether this is the name of a metric, such as fid or, at another scale of guidance, fid_at_2."""
    return _kind(name) in DIRECTIONS


def is_positive(metric: str) -> bool:
    """Whether the metric is above 0, and its noise in proportion to it."""
    return _kind(metric) in _POSITIVE


def in_order(names: Iterable[str]) -> list[str]:
    """The metrics among these names in the order of tables, those of further scales of guidance last."""
    kinds = list(DIRECTIONS)
    found = {name for name in names if is_metric(name)}
    return sorted(found, key=lambda name: (_scale(name), kinds.index(_kind(name))))


def _kind(metric: str) -> str:
    return metric.partition(_AT)[0]


def _scale(metric: str) -> float:
    """Its further scale of guidance; -1 for the first."""
    return float(metric.partition(_AT)[2] or -1)


def metric_name(metric: str) -> str:
    """Return the metric as written in tables, with abbreviations: FID, IS, or "FID at 2" of guidance."""
    kind, _, scale = metric.partition(_AT)
    name = _ABBREVIATED.get(kind, kind)
    return f"{name} at {scale}" if scale else name


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


def percent(value: float, sign: str = "") -> str:
    """Write a percentage to one decimal, or to as many as tell it from 0, up to four; without the sign of percent.

    sign: "+" for that of positive ones too.
    """
    text = ""
    for decimals in (1, 2, 3, 4):
        text = f"{value:{sign}z.{decimals}f}"
        if value == 0 or not math.isfinite(value) or float(text) != 0:
            break
    return text


def within(margin: float) -> str:
    """Write a margin: ±2%."""
    return f"±{100 * margin:.3g}%"
