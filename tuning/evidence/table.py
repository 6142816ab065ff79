"""The columns of tables of schedules, the same in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.metrics import count, gain, metric_name, number
from tuning.evidence.records import TrialRecord

__all__ = ["Column", "columns"]

_METRICS = ("fid", "kid", "precision", "recall")
# A terminal narrower than the first omits images and seeds; narrower than the second, the stages walked; narrower than
# the third, the metrics other than the search's.
_NARROW, _ROOMY, _WIDE = 60, 80, 120


@dataclass(frozen=True)
class Column:
    """A column: its title, and its text for an arm."""

    title: tuple[str, ...]
    """By lines."""
    text: Callable[[Arm], str]
    least_width: int = 0
    """The least width of a terminal that shows it, in characters."""


def columns(ranking: Ranking) -> list[Column]:
    """Return the columns of a table of the arms of `ranking`, the schedule's first.

    Each metric is a mean over the fresh seeds of an arm if it has any, else over its runs in the search; so is the
    gain, the improvement over uniform sampling in percent with the same seeds.
    """
    metric, uniform = ranking.metric, ranking.uniform
    name = metric_name(metric)

    def gained(arm: Arm) -> str:
        value, beside, _ = side_by_side(arm, uniform, metric)
        return "–" if beside is None or arm.is_uniform else f"{gain(value, beside, metric):+.1f}%"

    fresh = Column((name, "fresh seeds"), lambda arm: number(arm.confirmed_value(metric)))
    return [
        Column(("schedule",), _label),
        Column((name, "search"), lambda arm: number(arm.search_value(metric))),
        *([fresh] if any(arm.confirmed for arm in ranking.arms) else []),
        Column(("gain",), gained),
        *(
            Column((metric_name(other),), partial(_mean, other), _WIDE)
            for other in _METRICS
            if other != metric
        ),
        Column(("stages",), lambda arm: arm.stages, _ROOMY),
        Column(("images",), lambda arm: count(max(record.images for record in _runs(arm))), _NARROW),
        Column(("seeds",), lambda arm: str(side_by_side(arm, uniform, metric)[2]), _NARROW),
    ]


def _label(arm: Arm) -> str:
    return arm.name if arm.control in (None, "uniform") else f"{arm.control}: {arm.name}"


def _runs(arm: Arm) -> list[TrialRecord]:
    return arm.confirmed or arm.searched


def _mean(metric: str, arm: Arm) -> str:
    runs = _runs(arm)
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return number(fmean(values) if len(values) == len(runs) else None)
