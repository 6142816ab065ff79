"""The plots of a study; u runs from 0 (clean, hardest) at the bottom to 1 (noise, easiest) at the top."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from curriculum_ray.files import replace_file
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.differences import Difference
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.previews import curve
from tuning.evidence.records import TrialRecord
from tuning.figures.run_files import ActiveSet, RunFiles
from tuning.figures.theme import (
    LIGHT,
    WIDE_INCHES,
    Theme,
    color_of,
    color_scale,
    colormap,
    dress,
    legend,
    new_figure,
    new_panels,
    to_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confirmation",
    "density_scale",
    "history",
    "kind_of",
    "levels_axis",
    "losses",
    "plot_sampled",
    "schedule",
    "trials",
]


_DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
_KINDS = {"uniform": "uniform sampling", "rival": "one-line rivals", "random": "random order"}


def plot_sampled(source: Path, target: Path) -> None:
    """Draw a run's sampled_timesteps.json, {"images": edges, "u": edges, "counts": rows}, as a PNG file."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    figure, axes = new_figure(3.2, LIGHT, 6.4)
    starts = [int(images) for images, _ in data.get("stage_starts", [])[1:]]
    _sampled(axes, data, starts, LIGHT, "Noise levels that were sampled")
    replace_file(Path(target), to_png(figure, dpi=110))


def schedule(run: RunFiles, theme: Theme) -> Figure | None:
    """Draw the active set that the schedule asked for beside the noise levels that were sampled."""
    panels = [panel for panel in (run.active, run.sampled) if panel is not None]
    if not panels:
        return None
    width = WIDE_INCHES / 2 * len(panels)
    figure, axes = new_panels(len(panels), 3.2, theme, len(panels), width=width)
    places = iter(axes)
    if run.active is not None:
        _active(next(places), run.active, theme)
    if run.sampled is not None:
        _sampled(next(places), run.sampled, run.stage_starts, theme, "What was sampled")
    for panel in axes[1:] if not theme.narrow else ():
        # Beside the label of the first panel's scale it would be taken for one of them.
        panel.set_ylabel("")
    return figure


def _active(axes: Axes, active: ActiveSet, theme: Theme) -> None:
    top = max(max(row) for row in active.densities)
    columns = list(zip(*active.densities, strict=True))
    mesh = axes.pcolormesh(
        active.starts, active.edges, columns, cmap=colormap(theme.density), norm=density_scale(top)
    )
    if len(active.clusters) <= 60:
        axes.hlines(active.clusters[1:-1], active.starts[0], active.starts[-1], theme.ground, linewidth=0.5)
    asked = "What the schedule asks for" + (", before importance" if active.importance else "")
    levels_axis(axes, theme, asked)
    _images(axes)
    _scale(axes, mesh, theme)


def _sampled(axes: Axes, data: Mapping[str, Any], starts: Sequence[int], theme: Theme, title: str) -> None:
    """Density of u within each row of images; 1 is uniform."""
    rows = []
    for counts in data["counts"]:
        total = sum(counts)
        rows.append([value * len(counts) / total if total else 0.0 for value in counts])
    columns = list(zip(*rows, strict=True))
    # One crowded cell must not make all others pale.
    ranked = sorted(value for row in rows for value in row)
    top = ranked[int(0.995 * (len(ranked) - 1))]
    mesh = axes.pcolormesh(
        data["images"], data["u"], columns, cmap=colormap(theme.density), norm=density_scale(top)
    )
    for start in starts if len(starts) <= 60 else ():
        axes.axvline(start, 0, 0.03, color=theme.kinds["hard_to_easy"], linewidth=1)
    levels_axis(axes, theme, title)
    _images(axes)
    _scale(axes, mesh, theme)


def density_scale(top: float) -> Any:
    """Uniform sampling has the same colour in all plots: the middle one; above it the scale is logarithmic."""
    import numpy as np
    from matplotlib.colors import FuncNorm

    most = max(top, 2.0)

    def forward(density: Any) -> Any:
        above = 0.5 + 0.5 * np.log(np.maximum(density, 1.0)) / np.log(most)
        return np.where(density < 1.0, 0.5 * density, above)

    def inverse(share: Any) -> Any:
        return np.where(share < 0.5, 2.0 * share, most ** (2.0 * np.maximum(share, 0.5) - 1.0))

    return FuncNorm((forward, inverse), vmin=0.0, vmax=most)


def _ticks(top: float) -> list[float]:
    """Densities to write beside the scale: from 0 over 1, by doubling, and no more than six."""
    step = 2.0 if top <= 10 else 4.0 if top <= 130 else 10.0
    above = [step**power for power in range(1, 12) if step**power <= 1.02 * max(top, 2.0)]
    return [0.0, 0.5, 1.0, *above]


def levels_axis(axes: Axes, theme: Theme, title: str) -> None:
    """Dress the axes with u upwards."""
    dress(axes, theme, title)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 clean", "0.25", "0.5", "0.75", "1 noise"])
    axes.set_ylabel("u (noise level)")


def _maybe_log(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale upwards where the values span much, so that their end can be read too."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _images(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    axes.set_xlabel("images seen")


def _scale(axes: Axes, mesh: Any, theme: Theme) -> None:
    bar = color_scale(mesh, axes, theme, "density (1: uniform)")
    bar.set_ticks([*_ticks(mesh.norm.vmax)])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.ax.minorticks_off()


def kind_of(arm: Arm) -> str:
    """Return the direction of the arm's order, "uniform", or "rival" for another change without a curriculum."""
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
    """Spread points that would cover one another, the same in every drawing."""
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
        decided = found.beats or found.loses
        color = (
            theme.kinds["other"]
            if found.beats
            else theme.kinds["hard_to_easy"]
            if found.loses
            else theme.faint
        )
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


def history(lines: Sequence[tuple[str, str, TrialRecord]], metric: str, theme: Theme) -> Figure:
    """Draw the metric of previews over images seen: label, kind of schedule and record of each run."""
    figure, axes = new_figure(3.4, theme)
    named: set[str] = set()
    for label, kind, record in lines:
        images, values = zip(*curve(record.history, metric), strict=True)
        once = "_" if label in named else label
        named.add(label)
        axes.plot(images, values, "o-", color=color_of(kind, theme), linewidth=1.4, markersize=4, label=once)
    dress(axes, theme, f"{metric_name(metric)} of previews while training, a line per run", grid="y")
    _images(axes)
    _maybe_log(axes, [value for *_, record in lines for _, value in curve(record.history, metric)])
    axes.set_ylabel(metric_name(metric))
    legend(axes, theme)
    return figure


def losses(runs: Sequence[tuple[str, RunFiles]], theme: Theme) -> Figure | None:
    """Draw the training losses over images seen; ticks below mark where a stage of the first run began."""
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = [(label, run) for label, run in runs if len(run.log) > 1]
    if not drawn:
        return None
    figure, axes = new_figure(3.4, theme)
    rivals = 0
    for place, (label, run) in enumerate(drawn):
        control = run.record.control
        kind = control if control in ("uniform", "rival") else run.record.order
        # The first is the best schedule, which may be the twin of another one and so a control.
        style: Any = "-" if place == 0 or control in (None, "uniform") else (0, (5, 2))
        if control == "rival":
            style = _DASHES[rivals % len(_DASHES)]
            rivals += 1
        images = [line["images"] for line in run.log]
        values = [line["loss"] for line in run.log]
        axes.plot(images, values, color=color_of(kind, theme), linewidth=1.6, linestyle=style, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for start in drawn[0][1].stage_starts:
        axes.axvline(start, 0, 0.03, color=color_of(drawn[0][1].record.order, theme), linewidth=1)
    dress(
        axes,
        theme,
        "Training loss (each schedule's own noise levels: early stages are not comparable)",
        grid="y",
    )
    _images(axes)
    axes.set_ylabel("loss")
    if theme.narrow and len(drawn) > 3:
        # Beside so many names there is no room for the curves.
        figure.set_size_inches(figure.get_figwidth(), 3.4 + 0.2 * len(drawn))
        legend(figure, theme, loc="outside lower left")
    else:
        legend(axes, theme)
    return figure
