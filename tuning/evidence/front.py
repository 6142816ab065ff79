"""The two objectives of the sampler nsgaii: the metric, and the images needed to match uniform sampling at its end.

The second comes from the previews (see `tuning.evidence.speed`): images until a trial is as good as uniform sampling's
last preview, on the same seed, by the same metric where the previews of both runs have it, else by FID. A trial that
never gets there counts as `MISSED` budgets, the same for all of them, so that only the metric ranks them; so does every
trial where uniform sampling failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuning.evidence.arms import Ranking
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import count, direction, metric_name, number
from tuning.evidence.previews import compared_by, curve
from tuning.evidence.records import TrialRecord
from tuning.evidence.speed import images_to_reach

__all__ = ["MISSED", "Objectives", "front", "objectives"]

MISSED = 2.0
"""Budgets counted for a trial that has not reached the target within one."""


@dataclass(frozen=True)
class Objectives:
    """How far one searched trial got in both objectives."""

    key: TrialKey
    name: str
    """The schedule's short name."""
    value: float
    """The metric at the end."""
    images: float
    """Images until as good as uniform sampling at its end; `MISSED` budgets where it never was."""
    missed: bool
    """Whether it never was."""

    def in_words(self, metric: str) -> str:
        """Both in words: "FID 6.10, as good as uniform sampling at its end after 31k images: 8u h2e p.3"."""
        reached = "not as good as uniform sampling at its end"
        if not self.missed:
            reached = f"as good as uniform sampling at its end after {count(self.images)} images"
        return f"{metric_name(metric)} {number(self.value)}, {reached}: {self.name}"


def objectives(record: TrialRecord, uniform: TrialRecord | None, metric: str) -> Objectives:
    """Both objectives of a finished trial, beside uniform sampling on the same seed, finished or not."""
    theirs = uniform.history if uniform else ()
    by = compared_by([record.history, theirs], metric)
    ends = curve(theirs, by)
    needed = images_to_reach(curve(record.history, by), ends[-1][1], by) if ends else None
    images = MISSED * record.images if needed is None else needed
    return Objectives(record.key, record.name, record.metrics[metric], images, needed is None)


def front(ranking: Ranking) -> list[Objectives]:
    """The searched trials that no other trial beats in both objectives, the best by the metric first.

    They are confirmed in this order, as far as `confirm_top` goes. Empty without previews in the search.
    """
    sign = 1 if direction(ranking.metric) == "min" else -1
    found = [
        objectives(record, ranking.uniform_run, ranking.metric)
        for record in ranking.searched
        if record.history
    ]
    found.sort(key=lambda each: (sign * each.value, each.images, each.key))
    result: list[Objectives] = []
    for each in found:
        if not result or each.images < result[-1].images:
            result.append(each)
    return result
