"""The columns of tables of schedules, the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from tuning.evidence.arms import Arm, Ranking, paired_by_seed, side_by_side
from tuning.evidence.metrics import count, in_order, metric_name, number, percent
from tuning.evidence.records import TrialRecord
from tuning.evidence.scale import gain

__all__ = ["Column", "columns"]

_METRICS = ("fid", "kid", "precision", "recall")
_WHERE_GIVEN = ("inception_score", "clip_score")
"""Metrics that some evaluations have."""
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
    """Return the columns of a table of the arms of `ranking`, that of their names first.

    Each metric is a mean over the fresh seeds of an arm if it has any, else over its runs in the search; so is the
    gain, the improvement over uniform sampling in percent with the same seeds. Where models are scored at several
    scales of guidance, the metric and the gain at each.
    """
    metric, uniform = ranking.metric, ranking.uniform
    name = metric_name(metric)

    def gained(by: str, arm: Arm) -> str:
        if any(by not in run.metrics for run in _runs(arm)):
            return "–"
        ours, theirs = paired_by_seed(arm, uniform, by)
        if not theirs or arm.is_uniform:
            return "–"
        better = gain(ours.values(), theirs.values(), by)
        return f"{percent(better, '+')}%" if math.isfinite(better) else "–"

    given = [each for each in _WHERE_GIVEN if each in _names(ranking)]
    scaled = [each for each in in_order(_names(ranking)) if each.startswith(f"{metric}_at_")]
    fresh = Column((name, "fresh seeds"), lambda arm: number(arm.confirmed_value(metric)))
    return [
        Column((ranking.noun,), _label),
        Column((name, "search"), lambda arm: number(arm.search_value(metric))),
        *([fresh] if any(arm.confirmed for arm in ranking.arms) else []),
        Column(("gain",), partial(gained, metric)),
        *(
            column
            for each in scaled
            for column in (
                Column((metric_name(each),), partial(_mean, each), _ROOMY),
                Column(("gain", f"at {each.rpartition('_')[2]}"), partial(gained, each), _ROOMY),
            )
        ),
        *(
            Column((metric_name(other),), partial(_mean, other), _WIDE)
            for other in (*_METRICS, *given)
            if other != metric
        ),
        Column(("stages",), lambda arm: arm.stages, _ROOMY),
        Column(("images",), lambda arm: count(max(record.images for record in _runs(arm))), _NARROW),
        Column(("seeds",), lambda arm: str(side_by_side(arm, uniform, metric)[2]), _NARROW),
    ]


def _names(ranking: Ranking) -> set[str]:
    return {name for arm in ranking.arms for record in arm.records for name in record.metrics}


def _label(arm: Arm) -> str:
    return arm.name if arm.control in (None, "uniform") else f"{arm.control}: {arm.name}"


def _runs(arm: Arm) -> list[TrialRecord]:
    return arm.confirmed or arm.searched


def _mean(metric: str, arm: Arm) -> str:
    runs = _runs(arm)
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return number(fmean(values) if len(values) == len(runs) else None)
