"""Previews of a run: the metrics of its models while it trained, by name.

A history holds [images seen, {"fid": …, "kid": …, …}] of each preview that was scored; runs of earlier releases kept
one number for each, its FID.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["History", "as_metrics", "compared_by", "curve", "named"]

History = Sequence[Sequence[Any]]


def named(history: History) -> list[tuple[int, dict[str, float]]]:
    """Return (images seen, metrics by name) of each preview; a number without a name is an FID."""
    return [
        (int(images), dict(values) if isinstance(values, Mapping) else {"fid": float(values)})
        for images, values in history
    ]


def curve(history: History, metric: str) -> list[tuple[int, float]]:
    """Return (images seen, `metric`) of each preview that has it."""
    return [(images, values[metric]) for images, values in named(history) if metric in values]


def compared_by(histories: Iterable[History], metric: str) -> str:
    """Return the metric by which the previews of these runs compare: `metric` where all of them have it, else fid."""
    return metric if all(metric in values for each in histories for _, values in named(each)) else "fid"


def as_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a preview by their names in MLflow: preview_fid and so on."""
    return {f"preview_{name}": value for name, value in values.items()}
