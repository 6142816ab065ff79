"""The figure of a data set's difficulty: one panel per measurement."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from curriculum_ray.curriculum import DifficultyCurve
from curriculum_ray.words import number_of
from tuning.difficulty.verdict import agreement, judge, signed
from tuning.figures.theme import Theme, color_scale, colormap, dress, legend, new_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render"]

Curves = Mapping[str, DifficultyCurve]
"""Measured curves, by the names in `verdict.NAMES`."""
Panel = Callable[["Axes", Curves, Theme], None]


def render(curves: Curves, theme: Theme, title: str = "") -> Figure:
    """Draw all panels that `curves` allow, under a title or none."""
    panels = _panels(curves)
    figure, places = new_panels(len(panels), 3.5, theme, min(2, len(panels)), pad=0.12)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=theme.ink)
    for axes, panel in zip(places, panels, strict=True):
        panel(axes, curves, theme)
    return figure


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


def _heading(axes: Axes, title: str, name: str, curves: Curves, theme: Theme) -> None:
    """Style axes over u: a title, with the verdict in small print below it."""
    verdict = judge(name, curves[name])
    answer = "harder at low noise" if verdict.yes else verdict.reason
    _over_u(axes, title, f"{answer} · Spearman {signed(verdict.correlation)}", theme)


def _over_u(axes: Axes, title: str, subtitle: str, theme: Theme) -> None:
    dress(axes, theme, title, "xy", subtitle)
    axes.set_xlim(0, 1)
    axes.set_xlabel("noise level u  (0 clean → 1 noise)")


def _relative_entropy(axes: Axes, curves: Curves, theme: Theme) -> None:
    _heading(
        axes,
        "Relative entropy",
        "relative_entropy" if "relative_entropy" in curves else "gaussian",
        curves,
        theme,
    )
    first, other = theme.series
    main = curves.get("relative_entropy")
    if main is not None:
        centre = _centres(main)[1:]
        value = main.difficulty[1:]
        axes.plot(centre, value, color=first, linewidth=2, label="the data, by Monte Carlo")
        if main.stderr is not None:
            low = [max(v - 2 * e, 0.2 * v) for v, e in zip(value, main.stderr[1:], strict=True)]
            high = [v + 2 * e for v, e in zip(value, main.stderr[1:], strict=True)]
            axes.fill_between(centre, low, high, color=first, alpha=0.2, linewidth=0)
    gaussian = curves.get("gaussian")
    if gaussian is not None:
        axes.plot(
            _centres(gaussian)[1:],
            gaussian.difficulty[1:],
            color=other,
            linewidth=1.6,
            linestyle=(0, (4, 2)),
            label="one Gaussian, closed form",
        )
        legend(axes, theme, loc="upper right")
    axes.set_yscale("log")
    axes.set_ylabel("nats between neighbouring levels")


def _remaining(name: str, axes: Axes, curves: Curves, theme: Theme) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colors = colormap(theme.noise)
    curve = curves[name]
    steps = curve.meta["steps"]
    dress(
        axes,
        theme,
        f"Losses of {curve.meta['method']}",
        "xy",
        f"{len(curve.difficulty)} intervals of u, mean of {number_of(len(curve.meta['seeds']), 'seed')}",
    )
    for k, (low, high) in enumerate(zip(curve.u, curve.u[1:], strict=False)):
        left = [row[k] for row in curve.meta["remaining"]]
        axes.plot(steps, left, color=colors((low + high) / 2), linewidth=1.6)
    axes.axhline(0.1, color=theme.faint, linewidth=1, linestyle=(0, (3, 3)))
    axes.annotate(
        "10% left", (1, 0.1), xytext=(4, 3), textcoords="offset points", fontsize=8.5, color=theme.faint
    )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(0, steps[-1])
    highest = max(max(row) for row in curve.meta["remaining"])
    axes.set_ylim(-0.03, min(max(1.05, highest + 0.03), 1.6))
    ticks = [step for step in (0, 10, 100, 1000, 10_000, 100_000) if step <= steps[-1]]
    axes.set_xticks(ticks, [f"{step:,}" for step in ticks])
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("share of the loss decrease left")
    color_scale(ScalarMappable(Normalize(0, 1), colors), axes, theme, "u  (0 clean → 1 noise)")


def _convergence(axes: Axes, curves: Curves, theme: Theme) -> None:
    _heading(
        axes, "Convergence", "convergence" if "convergence" in curves else "convergence-paper", curves, theme
    )
    shared, paper = curves.get("convergence"), curves.get("convergence-paper")
    if shared is not None:
        _steps(axes, shared, theme.series[0], "one shared model")
    if paper is not None:
        _steps(axes, paper, theme.series[1], "one model per interval")
    if shared is not None and paper is not None:
        # Room for the legend above curves that are flat.
        axes.margins(y=0.25)
        legend(axes, theme, loc="upper right")
    axes.set_ylabel("steps until 10% is left")
    axes.set_ylim(bottom=0)


def _noise_scale(axes: Axes, curves: Curves, theme: Theme) -> None:
    _heading(axes, "Gradient noise", "gradient", curves, theme)
    _steps(axes, curves["gradient"], theme.series[0], "")
    axes.set_yscale("log")
    axes.set_ylabel("gradient noise scale, images")


def _loss(axes: Axes, curves: Curves, theme: Theme) -> None:
    _heading(axes, "Loss that remains", "loss", curves, theme)
    _steps(axes, curves["loss"], theme.series[0], "")
    axes.set_ylabel("mean squared error at the end")
    axes.set_ylim(bottom=0)


def _snr(axes: Axes, curves: Curves, theme: Theme) -> None:
    curve = curves["snr"]
    _over_u(axes, "Signal-to-noise ratio", "of the process, whatever the data", theme)
    axes.plot(_centres(curve), curve.difficulty, color=theme.series[0], linewidth=2)
    axes.set_ylabel("log-SNR")


def _steps(axes: Axes, curve: DifficultyCurve, color: str, label: str) -> None:
    """A curve as steps over its intervals, with each seed as a dot."""
    axes.stairs(curve.difficulty, curve.u, color=color, linewidth=2, label=label, baseline=None)
    axes.stairs(curve.difficulty, curve.u, color=color, alpha=0.13, fill=True)
    centre = _centres(curve)
    for row in curve.meta.get("by_seed", []):
        axes.plot(centre, row, linestyle="none", marker="o", markersize=4, color=color, alpha=0.75)


def _similarity(axes: Axes, curves: Curves, theme: Theme) -> None:
    curve = curves["gradient"]
    first, other = theme.series
    yes, correlation = agreement(curve)
    answer = "neighbours agree most" if yes else "no clear trend with distance"
    dress(axes, theme, "Do gradients agree?", subtitle=f"{answer} · Spearman {signed(correlation)}")
    assert curve.similarity is not None
    colors = colormap([other, theme.ground, first])
    mesh = axes.pcolormesh(curve.u, curve.u, curve.similarity, cmap=colors, vmin=-1, vmax=1)
    axes.set_aspect("equal", anchor="W")
    axes.set_xlabel("u  (0 clean → 1 noise)")
    axes.set_ylabel("u")
    color_scale(mesh, axes, theme, "cosine of gradients")


def _centres(curve: DifficultyCurve) -> list[float]:
    return [(low + high) / 2 for low, high in zip(curve.u, curve.u[1:], strict=False)]
