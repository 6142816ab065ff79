"""The picture of a data set's difficulty: one panel per measurement, drawn for light and for dark pages."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curriculum_ray.curriculum import DifficultyCurve
from tuning.difficulty.verdict import agreement, judge, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Theme", "render"]


@dataclass(frozen=True)
class Theme:
    """Colours: background, text, small print, grid, the measured line, one beside it, a scale of noise."""

    background: str
    ink: str
    faint: str
    grid: str
    line: str
    other: str
    noise: tuple[str, ...]


LIGHT = Theme(
    "#ffffff",
    "#1f2430",
    "#6b7280",
    "#e5e7eb",
    "#2459c7",
    "#c2571a",
    ("#12307a", "#2a7fb8", "#58b99d", "#f0a93b"),
)
DARK = Theme(
    "#14171f",
    "#e6e8ee",
    "#9aa3b2",
    "#2b313d",
    "#7fb0ff",
    "#ffb37a",
    ("#8fb8ff", "#46b3d4", "#6fd3a8", "#f5b04c"),
)

Curves = Mapping[str, DifficultyCurve]
"""Measured curves by the names of `verdict.NAMES`."""
Panel = Callable[["Axes", Curves, Theme], None]


def render(curves: Curves, theme: Theme, *, kind: str, title: str) -> bytes:
    """Draw all panels that `curves` allow; `kind` is png or svg. Text in an SVG is drawn as shapes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = _panels(curves)
    columns = {4: 2, 7: 4, 8: 4}.get(len(panels), min(3, len(panels)))
    rows = -(-len(panels) // columns)
    style: Any = {
        "figure.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "text.color": theme.ink,
        "axes.labelcolor": theme.faint,
        "axes.edgecolor": theme.grid,
        "axes.titlecolor": theme.ink,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "grid.color": theme.grid,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.labelsize": 9.5,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
        "font.family": "DejaVu Sans",
        "svg.hashsalt": "curriculum-ray",
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            rows,
            columns,
            figsize=(4.6 * columns, 3.5 * rows + (0.5 if title else 0)),
            layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.12, wspace=0.03, hspace=0.04),
            squeeze=False,
        )
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=theme.ink)
        cells = axes.flatten()
        for axis, panel in zip(cells, panels, strict=False):
            panel(axis, curves, theme)
        for axis in cells[len(panels) :]:
            axis.set_axis_off()
        content = _saved(figure, kind)
        pyplot.close(figure)
    return content


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def _panels(curves: Curves) -> list[Panel]:
    panels: list[Panel] = []
    if "relative_entropy" in curves or "gaussian" in curves:
        panels.append(_relative_entropy)
    for name in ("convergence", "convergence-paper"):
        if name in curves:
            panels.append(functools.partial(_remaining, name))
    if "convergence" in curves or "convergence-paper" in curves:
        panels.append(_convergence)
    if "gradient" in curves:
        panels += [_similarity, _noise_scale]
    if "loss" in curves:
        panels.append(_loss)
    if "snr" in curves:
        panels.append(_snr)
    return panels


def _heading(axis: Axes, title: str, name: str, curves: Curves, theme: Theme) -> None:
    """A title, and under it the verdict in small print."""
    verdict = judge(name, curves[name])
    axis.set_title(title, pad=22)
    answer = "harder at low noise" if verdict.yes else verdict.reason
    _small_print(axis, f"{answer} · Spearman {signed(verdict.correlation)}", theme)


def _small_print(axis: Axes, text: str, theme: Theme) -> None:
    axis.text(0, 1.025, text, transform=axis.transAxes, fontsize=9, color=theme.faint)


def _timestep_axis(axis: Axes) -> None:
    axis.set_xlim(0, 1)
    axis.set_xlabel("noise level u  (0 clean → 1 noise)")


def _relative_entropy(axis: Axes, curves: Curves, theme: Theme) -> None:
    main = curves.get("relative_entropy")
    if main is not None:
        centre = _centres(main)[1:]
        value = main.difficulty[1:]
        axis.plot(centre, value, color=theme.line, linewidth=2, label="the data, by Monte Carlo")
        if main.stderr is not None:
            low = [max(v - 2 * e, 0.2 * v) for v, e in zip(value, main.stderr[1:], strict=True)]
            high = [v + 2 * e for v, e in zip(value, main.stderr[1:], strict=True)]
            axis.fill_between(centre, low, high, color=theme.line, alpha=0.2, linewidth=0)
    gaussian = curves.get("gaussian")
    if gaussian is not None:
        axis.plot(
            _centres(gaussian)[1:],
            gaussian.difficulty[1:],
            color=theme.other,
            linewidth=1.6,
            linestyle=(0, (4, 2)),
            label="one Gaussian, closed form",
        )
        axis.legend(loc="upper right")
    axis.set_yscale("log")
    axis.set_ylabel("nats between neighbouring levels")
    _timestep_axis(axis)
    _heading(axis, "Relative entropy", "gaussian" if main is None else "relative_entropy", curves, theme)


def _remaining(name: str, axis: Axes, curves: Curves, theme: Theme) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("noise", theme.noise)
    curve = curves[name]
    steps = curve.meta["steps"]
    for k, (low, high) in enumerate(zip(curve.u, curve.u[1:], strict=False)):
        axis.plot(
            steps, [row[k] for row in curve.meta["remaining"]], color=colours((low + high) / 2), linewidth=1.6
        )
    axis.axhline(0.1, color=theme.faint, linewidth=1, linestyle=(0, (3, 3)))
    axis.annotate(
        "10% left", (1, 0.1), xytext=(4, 3), textcoords="offset points", fontsize=8.5, color=theme.faint
    )
    axis.set_xscale("symlog", linthresh=10)
    axis.set_xlim(0, steps[-1])
    highest = max(max(row) for row in curve.meta["remaining"])
    axis.set_ylim(-0.03, min(max(1.05, highest + 0.03), 1.6))
    ticks = [step for step in (0, 10, 100, 1000, 10_000, 100_000) if step <= steps[-1]]
    axis.set_xticks(ticks, [f"{step:,}" for step in ticks])
    axis.set_xlabel("optimiser steps")
    axis.set_ylabel("share of the loss decrease left")
    axis.set_title(f"Losses of {curve.meta['method']}", pad=22)
    _small_print(
        axis, f"{len(curve.difficulty)} intervals of u, mean of {len(curve.meta['seeds'])} seeds", theme
    )
    bar = axis.figure.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=axis, pad=0.02, aspect=28)
    bar.set_label("u  (0 clean → 1 noise)", fontsize=9, color=theme.faint)
    bar.outline.set_visible(False)


def _convergence(axis: Axes, curves: Curves, theme: Theme) -> None:
    shared, paper = curves.get("convergence"), curves.get("convergence-paper")
    if shared is not None:
        _steps(axis, shared, theme.line, "one shared model")
    if paper is not None:
        _steps(axis, paper, theme.other, "one model per interval")
    if shared is not None and paper is not None:
        axis.legend(loc="upper right")
    axis.set_ylabel("steps until 10% is left")
    axis.set_ylim(bottom=0)
    _timestep_axis(axis)
    _heading(axis, "Convergence", "convergence-paper" if shared is None else "convergence", curves, theme)


def _noise_scale(axis: Axes, curves: Curves, theme: Theme) -> None:
    _steps(axis, curves["gradient"], theme.line, "")
    axis.set_yscale("log")
    axis.set_ylabel("gradient noise scale, images")
    _timestep_axis(axis)
    _heading(axis, "Gradient noise", "gradient", curves, theme)


def _loss(axis: Axes, curves: Curves, theme: Theme) -> None:
    _steps(axis, curves["loss"], theme.line, "")
    axis.set_ylabel("mean squared error at the end")
    axis.set_ylim(bottom=0)
    _timestep_axis(axis)
    _heading(axis, "Loss that remains", "loss", curves, theme)


def _snr(axis: Axes, curves: Curves, theme: Theme) -> None:
    curve = curves["snr"]
    axis.plot(_centres(curve), curve.difficulty, color=theme.line, linewidth=2)
    axis.set_ylabel("log-SNR")
    _timestep_axis(axis)
    _heading(axis, "Signal-to-noise ratio", "snr", curves, theme)


def _steps(axis: Axes, curve: DifficultyCurve, colour: str, label: str) -> None:
    """A curve as steps over its intervals, with each seed as a dot."""
    axis.stairs(curve.difficulty, curve.u, color=colour, linewidth=2, label=label, baseline=None)
    axis.stairs(curve.difficulty, curve.u, color=colour, alpha=0.13, fill=True)
    centre = _centres(curve)
    for row in curve.meta.get("by_seed", []):
        axis.plot(centre, row, linestyle="none", marker="o", markersize=4, color=colour, alpha=0.75)


def _similarity(axis: Axes, curves: Curves, theme: Theme) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    curve = curves["gradient"]
    colours = LinearSegmentedColormap.from_list("cosine", [theme.other, theme.background, theme.line])
    assert curve.similarity is not None
    image = axis.pcolormesh(curve.u, curve.u, curve.similarity, cmap=colours, vmin=-1, vmax=1)
    axis.grid(False)
    axis.set_aspect("equal", anchor="W")
    axis.set_xlabel("u  (0 clean → 1 noise)")
    axis.set_ylabel("u")
    yes, correlation = agreement(curve)
    axis.set_title("Do gradients agree?", pad=22)
    answer = "neighbours agree most" if yes else "no clear trend with distance"
    _small_print(axis, f"{answer} · Spearman {signed(correlation)}", theme)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.02, aspect=28)
    bar.set_label("cosine of gradients", fontsize=9, color=theme.faint)
    bar.outline.set_visible(False)


def _centres(curve: DifficultyCurve) -> list[float]:
    return [(low + high) / 2 for low, high in zip(curve.u, curve.u[1:], strict=False)]
