"""The looks of all plots, in light and dark, without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "NARROW_INCHES", "Theme", "color_of", "colormap", "dress", "new_figure", "to_png"]

NARROW_INCHES = 4.4


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; the kinds of schedule can be told apart by the colour-blind (Okabe & Ito)."""

    ground: str
    ink: str
    faint: str
    grid: str
    density: tuple[str, ...]
    """From never drawn to drawn most."""
    gains: tuple[str, ...]
    """From worse than uniform sampling over equal to better, for the colour-blind too."""
    kinds: dict[str, str]
    """Colour by direction of the order; "uniform" is the control without one, "rival" another one."""
    narrow: bool = False
    """Whether it is drawn for a telephone: panels one below the other, long texts wrapped."""

    def for_telephones(self) -> Theme:
        """The same colours on a narrow screen."""
        return replace(self, narrow=True)

    def wrapped(self, text: str, width: int = 100, narrow: int = 46) -> str:
        """Break a text into lines of at most `width` letters, `narrow` ones on a narrow screen."""
        return "\n".join(fill(line, narrow if self.narrow else width) for line in text.split("\n"))


LIGHT = Theme(
    ground="#ffffff",
    ink="#1f2430",
    faint="#6b7280",
    grid="#e5e7eb",
    density=("#f3f5f8", "#c9dff2", "#7fb5de", "#3b82bf", "#1a5490", "#0b2a52"),
    gains=("#8a3800", "#d55e00", "#f3b98d", "#f6f7f9", "#93c4e6", "#0072b2", "#00385c"),
    kinds={
        "uniform": "#1f2430",
        "easy_to_hard": "#0072b2",
        "hard_to_easy": "#d55e00",
        "random": "#9b5c9b",
        "rival": "#8f7400",
        "other": "#009e73",
    },
)
DARK = Theme(
    ground="#161a22",
    ink="#e6e9ef",
    faint="#98a2b3",
    grid="#2b313d",
    density=("#1d222c", "#1f3c5c", "#2b66a0", "#4f9bd9", "#9accf2", "#eaf6ff"),
    gains=("#ffb066", "#f07a2a", "#7d4320", "#1d222c", "#23557a", "#4aa3e0", "#9bd6ff"),
    kinds={
        "uniform": "#e6e9ef",
        "easy_to_hard": "#56b4e9",
        "hard_to_easy": "#ff8c42",
        "random": "#d79bd7",
        "rival": "#f0e442",
        "other": "#2fd3a2",
    },
)


def color_of(kind: str, theme: Theme) -> str:
    """Return the colour of a kind of schedule."""
    return theme.kinds.get(kind, theme.kinds["other"])


def colormap(theme: Theme) -> Colormap:
    """Return the scale of densities."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("density", list(theme.density))


def new_figure(
    width: float, height: float, theme: Theme, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of `width` x `height` inches and its axes, side by side; one above the other where narrow."""
    from matplotlib.figure import Figure

    if theme.narrow:
        size = (NARROW_INCHES, height * columns)
        figure = Figure(figsize=size, facecolor=theme.ground, layout="constrained")
        grid = figure.subplots(columns, 1, **options)
        return figure, grid.T if hasattr(grid, "T") else grid

    figure = Figure(figsize=(width, height), facecolor=theme.ground, layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def dress(axes: Axes, theme: Theme, title: str = "", grid: Sequence[str] = ()) -> None:
    """Give the axes the theme's colours, a title at the left, and grid lines along the named axes."""
    axes.set_facecolor(theme.ground)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.tick_params(colors=theme.faint, labelsize=9, length=3, which="both")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.faint)
        label.set_fontsize(9)
    for axis in grid:
        axes.grid(True, axis=axis, color=theme.grid, linewidth=0.8)  # type: ignore[arg-type]
    if title:
        axes.set_title(
            theme.wrapped(title), loc="left", fontsize=10.5, color=theme.ink, fontweight="bold", pad=8
        )


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Draw the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return buffer.getvalue()
