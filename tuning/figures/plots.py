"""Plots of metrics and losses: of every run, on fresh seeds, and over images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.differences import Difference
from tuning.evidence.metrics import metric_name, number
from tuning.evidence.previews import curve
from tuning.evidence.records import TrialRecord
from tuning.figures.levels import images_axis
from tuning.figures.run_files import RunFiles
from tuning.figures.theme import (
    Theme,
    color_of,
    dress,
    legend,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confirmation", "history", "kind_of", "losses", "trials"]

_KINDS = {
    "uniform": "uniform sampling",
    "rival": "one-line rivals",
    "none": "no curriculum",
    "random": "random order",
}


def _maybe_log(axes: Axes, values: Sequence[float]) -> None:
    """Use a logarithmic y-axis where values span a wide range, so that late ones are legible."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def kind_of(arm: Arm) -> str:
    """Return the direction of the arm's order, "none" without a curriculum; or "uniform" or "rival"."""
    if arm.control in ("uniform", "rival"):
        return arm.control
    return arm.records[0].order


def trials(ranking: Ranking, theme: Theme) -> Figure:
    """Draw each run's metric by the direction of its order: filled in the search, hollow on fresh seeds."""
    from matplotlib.ticker import LogLocator, NullFormatter

    table, metric, uniform = ranking.arms, ranking.metric, ranking.uniform
    kinds = sorted({kind_of(arm) for arm in table}, key=lambda kind: (kind != "uniform", kind))
    figure, axes = new_figure(1.3 + 0.55 * len(kinds), theme)
    for place, kind in enumerate(kinds):
        arms = [arm for arm in table if kind_of(arm) == kind]
        searched = [(record, arm) for arm in arms for record in arm.searched]
        fresh = [(record, arm) for arm in arms for record in arm.confirmed]
        color = color_of(kind, theme)
        for runs, filled in ((searched, True), (fresh, False)):
            values = [record.metrics[metric] for record, _ in runs]
            heights = [place + (-0.12 if filled else 0.16) + _jitter(i) for i in range(len(values))]
            face = color if filled else "none"
            axes.scatter(
                values, heights, s=46, facecolors=face, edgecolors=color, linewidths=1.3, alpha=0.9, zorder=3
            )
    if uniform is not None and uniform.searched:
        axes.axvline(
            uniform.search_value(metric) or 0.0, color=theme.faint, linewidth=1, linestyle=(0, (4, 3))
        )
    every = [record.metrics[metric] for arm in table for record in arm.records]
    if min(every) > 0 and max(every) > 5 * min(every):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
    dress(axes, theme, f"{metric_name(metric)} of every finished run", grid="x")
    axes.set_yticks(range(len(kinds)), [_KINDS.get(kind, kind.replace("_", " ")) for kind in kinds])
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    gap = "\n" if theme.narrow else "   "
    key = f"● search   ○ fresh seeds{gap}┆ uniform sampling in the search"
    axes.set_xlabel(f"{metric_name(metric)}{gap}{key}")
    return figure


def _jitter(index: int) -> float:
    """An offset that spreads overlapping points, the same in every plot."""
    return ((index * 0.618) % 1 - 0.5) * 0.16


def confirmation(
    differences: Sequence[Difference], metric: str, theme: Theme, against: str = "uniform sampling"
) -> Figure:
    """Draw the gains over uniform sampling, or over a rival, with their simultaneous intervals."""
    names = [fill(found.name, 48 if theme.narrow else 40) for found in differences]
    lines = max(name.count("\n") for name in names) + 1
    figure, axes = new_figure(1.25 + max(0.5, 0.18 * lines + 0.1) * len(differences), theme)
    axes.axvline(0, color=theme.faint, linewidth=1)
    for place, found in enumerate(differences):
        known = found.low is not None and found.high is not None
        decided = found.answer in ("beats", "loses")
        color = theme.kinds["other" if found.beats else "hard_to_easy"] if decided else theme.faint
        if known:
            ends = [found.percent(found.low or 0.0), found.percent(found.high or 0.0)]
            axes.plot(ends, [place, place], color=color, linewidth=2.5, solid_capstyle="round")
        face = color if decided else theme.ground
        axes.plot([found.percent(found.mean)], [place], "o", color=color, markersize=8, markerfacecolor=face)
    dress(axes, theme, f"Gain over {against} on fresh seeds, with 95% intervals", grid="x")
    axes.set_yticks(range(len(differences)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    if theme.narrow:
        axes.set_yticks([])
        axes.set_ylim(len(differences) - 0.7, -0.9)
        across = axes.get_yaxis_transform()
        behind = {"facecolor": theme.ground, "edgecolor": "none", "pad": 0.5}
        for place, name in enumerate(names):
            axes.text(
                0.01,
                place - 0.15,
                name,
                transform=across,
                va="bottom",
                color=theme.ink,
                fontsize=8.5,
                bbox=behind,
            )
    axes.set_xlabel(f"better {metric_name(metric)}, percent")
    return figure


@dataclass(frozen=True)
class _Curve:
    """A run's line over images seen."""

    label: str
    kind: str
    points: list[tuple[int, float]]
    """(images seen, value)."""
    dashed: bool


def _draw_curves(axes: Axes, curves: Sequence[_Curve], theme: Theme, marker: str = "") -> None:
    """Draw each arm in a style of its own, but of the rivals the first alone: the others are thin, grey, one group."""
    named: set[str] = set()
    rival = next((each.label for each in curves if each.kind == "rival"), None)
    for each in curves:
        grouped = each.kind == "rival" and each.label != rival
        label = "other rivals" if grouped else each.label
        axes.plot(
            *zip(*each.points, strict=True),
            color=theme.faint if grouped else color_of(each.kind, theme),
            alpha=0.6 if grouped else 1.0,
            linestyle=(0, (5, 2)) if each.dashed and not grouped else "-",
            linewidth=0.8 if grouped else 1.6,
            marker="" if grouped else marker,
            markersize=4,
            zorder=1.5 if grouped else 2.0,
            label="_" if label in named else label,
        )
        named.add(label)


def _legend_below(axes: Axes, theme: Theme) -> None:
    """Name the lines below the axes, where nothing is hidden, and make the figure higher by that."""
    figure, columns = axes.get_figure(root=True), 1 if theme.narrow else 3
    assert figure is not None
    rows = -(-len(axes.get_legend_handles_labels()[1]) // columns)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.2 * rows)
    legend(figure, theme, loc="outside lower left", ncols=columns)


def history(lines: Sequence[tuple[str, str, TrialRecord]], metric: str, theme: Theme) -> Figure | None:
    """Draw the metric of previews over images seen. None where no preview has a finite one.

    lines: label, kind of schedule and record of each run, those of the best arms first.
    """
    curves = [
        _Curve(label, kind, points, dashed=record.control not in (None, "uniform"))
        for label, kind, record in lines
        if (points := curve(record.history, metric))
    ]
    if not curves:
        return None
    figure, axes = new_figure(3.4, theme)
    _draw_curves(axes, curves, theme, "o")
    dress(axes, theme, f"{metric_name(metric)} of previews while training, a line per run", grid="y")
    images_axis(axes)
    _maybe_log(axes, [value for each in curves for _, value in each.points])
    axes.set_ylabel(metric_name(metric))
    _legend_below(axes, theme)
    return figure


def losses(runs: Sequence[tuple[str, RunFiles]], theme: Theme) -> Figure | None:
    """Draw the training losses over images seen; ticks below mark where a stage of the first run began.

    runs: label and files, the best schedule first, then the best arms. None where no log has two losses.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = []
    for place, (label, run) in enumerate(runs):
        control = run.record.control
        kind = control if control in ("uniform", "rival") else run.record.order
        # Others have no place on a logarithmic axis.
        points = [(line.images, line.loss) for line in run.log if line.loss and 0 < line.loss < math.inf]
        if len(points) > 1:
            # The best schedule may be a twin, and so a control.
            dashed = place > 0 and control not in (None, "uniform")
            drawn.append((run, _Curve(label, kind, points, dashed)))
    if not drawn:
        return None
    figure, axes = new_figure(3.4, theme)
    _draw_curves(axes, [each for _, each in drawn], theme)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.yaxis.set_minor_formatter(NullFormatter())
    first, line = drawn[0]
    for start in first.stage_starts:
        axes.axvline(start, 0, 0.03, color=color_of(line.kind, theme), linewidth=1)
    dress(axes, theme, "Training loss, each at its own noise levels: heights are not comparable", grid="y")
    images_axis(axes)
    axes.set_ylabel("loss")
    _legend_below(axes, theme)
    return figure
