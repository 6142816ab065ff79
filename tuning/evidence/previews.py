"""Previews of a run: the metrics of its model during training, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite, nan

from curriculum_ray.runs.result import History

__all__ = ["as_metrics", "compared_by", "curve"]


def curve(history: History, metric: str) -> list[tuple[int, float]]:
    """Return (images seen, `metric`) of each preview that has a finite one: a model may have diverged for a while."""
    return [(images, metrics[metric]) for images, metrics in history if isfinite(metrics.get(metric, nan))]


def compared_by(histories: Iterable[History], metric: str) -> str:
    """Return the metric to compare the previews of these runs by: `metric` where all of them have it, else fid."""
    return metric if all(metric in metrics for each in histories for _, metrics in each) else "fid"


def as_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a preview by their names in MLflow: preview_fid and so on."""
    return {f"preview_{name}": value for name, value in metrics.items()}
