"""Convergence in a report: previews while training, and the images until a schedule is as good as uniform sampling."""

from __future__ import annotations

from collections.abc import Sequence

from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.metrics import count, metric_name
from tuning.evidence.previews import compared_by
from tuning.evidence.records import TrialRecord
from tuning.evidence.speed import SpeedUp, speed_up
from tuning.figures import plots
from tuning.figures.draw import drawn
from tuning.figures.page import Html, paragraph, section, table

__all__ = ["convergence", "label"]

_NOTE = (
    "Previews have fewer samples than the scores above, and are compared with previews only, by their {metric}. The "
    "speed-up is the images after which uniform sampling is as good as at its end, over those that the {noun} needs "
    "for that; seeds are paired, and each interval has 95% confidence."
)


def label(arm: Arm, best: Arm | None, noun: str) -> str:
    """Name an arm in a legend: a rival by its name, the best of the study as the best `noun`."""
    if arm is best:
        return f"best {noun}"
    return f"rival: {arm.name}" if arm.control == "rival" else f"{arm.control} control"


def convergence(ranking: Ranking, best: Arm | None) -> Html:
    """Return the section, with the arm that the study takes for its best; empty without previews."""
    metric = ranking.metric
    lines = [
        (label(arm, best, ranking.best_noun), plots.kind_of(arm), record)
        for arm in ranking.arms
        if arm is best or arm.control is not None
        for record in _with_history(arm.confirmed) or _with_history(arm.searched)
    ]
    if not lines:
        return Html()
    by = compared_by((record.history for *_, record in lines), metric)
    return section(
        "Convergence",
        drawn(lambda theme: plots.history(lines, by, theme), f"{metric_name(by)} over images seen"),
        *_speed(speed_up(ranking), ranking.noun),
    )


def _speed(found: Sequence[SpeedUp], noun: str) -> list[Html]:
    """Images until as good as uniform sampling at its end: the best in words, then each arm."""
    if not found:
        return []
    first = found[0]
    headings = [
        noun,
        "images to reach it",
        "times as fast",
        "seeds that reached it",
        "seeds that did not",
    ]
    return [
        paragraph(f"Images until as good as uniform sampling at its end. {first.name}: {first.in_words()}."),
        table(headings, [_row(one) for one in found]),
        paragraph(_NOTE.format(metric=metric_name(first.metric), noun=noun), faint=True),
    ]


def _row(one: SpeedUp) -> list[object]:
    if one.images is None:
        return [one.name, "never", "–", 0, one.missed]
    ends = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return [one.name, count(one.images), f"{one.ratio:.2f}{ends}", one.seeds, one.missed]


def _with_history(runs: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [run for run in runs if run.history]
