"""Plots of noise levels over images seen; u runs from 0 (clean, hardest) at the bottom to 1 (noise, easiest) above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.files import replace_file
from curriculum_ray.runs.sampled_file import SampledLevels, read_sampled
from tuning.evidence.metrics import count
from tuning.figures.run_files import ActiveSet, RunFiles
from tuning.figures.theme import (
    LIGHT,
    WIDE_INCHES,
    Theme,
    color_scale,
    colormap,
    dress,
    new_figure,
    new_panels,
    to_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["density_scale", "images_axis", "levels_axis", "plot_sampled", "schedule"]


def plot_sampled(source: Path, target: Path) -> None:
    """Draw a run's sampled_timesteps.json as a PNG file; nothing where there is none, or a damaged one."""
    sampled = read_sampled(source)
    if sampled is None:
        return
    figure, axes = new_figure(3.2, LIGHT, 6.4)
    starts = [images for images, _ in sampled.stage_starts[1:]]
    _sampled(axes, sampled, starts, LIGHT, "Noise levels that were sampled")
    replace_file(target, to_png(figure, dpi=110))


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
        # Beside the label of the first panel's scale, it would seem to be one of its labels.
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
    images_axis(axes)
    _scale(axes, mesh, theme)


def _sampled(axes: Axes, sampled: SampledLevels, starts: Sequence[int], theme: Theme, title: str) -> None:
    """Density of u within each row of images; 1 is uniform."""
    rows = sampled.densities
    columns = list(zip(*rows, strict=True))
    # A single crowded cell must not make all others pale.
    ranked = sorted(value for row in rows for value in row)
    top = ranked[int(0.995 * (len(ranked) - 1))]
    mesh = axes.pcolormesh(
        sampled.images, sampled.u, columns, cmap=colormap(theme.density), norm=density_scale(top)
    )
    for start in starts if len(starts) <= 60 else ():
        axes.axvline(start, 0, 0.03, color=theme.kinds["hard_to_easy"], linewidth=1)
    levels_axis(axes, theme, title)
    images_axis(axes)
    _scale(axes, mesh, theme)


def density_scale(top: float) -> Any:
    """A scale with uniform sampling at the middle colour in all plots; logarithmic above it."""
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
    """Densities to label on the scale: 0, 1, and doublings, at most six."""
    step = 2.0 if top <= 10 else 4.0 if top <= 130 else 10.0
    above = [step**power for power in range(1, 12) if step**power <= 1.02 * max(top, 2.0)]
    return [0.0, 0.5, 1.0, *above]


def levels_axis(axes: Axes, theme: Theme, title: str) -> None:
    """Style axes with u upwards."""
    dress(axes, theme, title)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 clean", "0.25", "0.5", "0.75", "1 noise"])
    axes.set_ylabel("u (noise level)")


def images_axis(axes: Axes) -> None:
    """Style axes with images seen to the right."""
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    axes.set_xlabel("images seen")


def _scale(axes: Axes, mesh: Any, theme: Theme) -> None:
    bar = color_scale(mesh, axes, theme, "density (1: uniform)")
    bar.set_ticks([*_ticks(mesh.norm.vmax)])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.ax.minorticks_off()
