"""The theme of all figures and pages, light and dark; figures are made without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = [
    "DARK",
    "LIGHT",
    "WIDE_INCHES",
    "Theme",
    "color_of",
    "color_scale",
    "colormap",
    "dress",
    "legend",
    "new_figure",
    "new_panels",
    "to_png",
]

WIDE_INCHES = 9.6
"""Width of a figure that spans a page; the same for all, so that text has one size."""
_NARROW_INCHES = 4.4


@dataclass(frozen=True)
class Theme:
    """Colours of figures and pages; kinds of schedule are distinct for the colour-blind (Okabe & Ito)."""

    ground: str
    """The background of a page and of every figure in it."""
    card: str
    """The background of raised parts."""
    ink: str
    """Text."""
    faint: str
    """Small print, axes."""
    grid: str
    """Grid lines, borders."""
    accent: str
    """Links."""
    good: str
    bad: str
    """Words of a verdict."""
    series: tuple[str, str]
    """The first and the second line of a plot, where lines are not schedules."""
    noise: tuple[str, ...]
    """Scale of noise levels, from clean to noise."""
    density: tuple[str, ...]
    """Scale of densities, from never drawn to drawn most."""
    gains: tuple[str, ...]
    """Scale from worse than uniform sampling to better, also for the colour-blind."""
    kinds: dict[str, str]
    """Colour by direction of the order; "uniform" and "rival" are arms without a curriculum."""
    narrow: bool = False
    """Whether it is for a phone: panels below each other, long texts wrapped."""

    def for_telephones(self) -> Theme:
        """The same colours on a narrow screen."""
        return replace(self, narrow=True)

    def wrapped(self, text: str, width: int = 100, narrow: int = 46) -> str:
        """Break a text into lines of at most `width` letters, `narrow` ones on a narrow screen."""
        return "\n".join(fill(line, narrow if self.narrow else width) for line in text.split("\n"))


LIGHT = Theme(
    ground="#ffffff",
    card="#f6f7f9",
    ink="#1f2430",
    faint="#667085",
    grid="#e5e7eb",
    accent="#0b5cab",
    good="#067647",
    bad="#b42318",
    series=("#0072b2", "#d55e00"),
    noise=("#12307a", "#2a7fb8", "#58b99d", "#f0a93b"),
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
    card="#1d222c",
    ink="#e6e9ef",
    faint="#98a2b3",
    grid="#2b313d",
    accent="#7cc0f5",
    good="#5fd8a0",
    bad="#ff9d8f",
    series=("#56b4e9", "#ff8c42"),
    noise=("#8fb8ff", "#46b3d4", "#6fd3a8", "#f5b04c"),
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


def colormap(colors: Sequence[str]) -> Colormap:
    """Return a continuous scale through `colors`, evenly spaced: `density`, `gains` or `noise` of a theme."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("theme", list(colors))


def new_figure(height: float, theme: Theme, width: float = WIDE_INCHES) -> tuple[Figure, Axes]:
    """Return a figure of `width` x `height` inches, narrower on a narrow screen, and its axes."""
    figure, (axes,) = new_panels(1, height, theme, 1, width=width)
    return figure, axes


def new_panels(
    count: int,
    height: float,
    theme: Theme,
    across: int = 2,
    narrow: int = 1,
    width: float = WIDE_INCHES,
    pad: float = 0.04,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and `count` axes in rows of `across` panels, of `narrow` ones on a narrow screen.

    height: of a row, in inches. width: of the figure. pad: inches kept free around each panel. Unused
    places in the last row stay empty.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = narrow if theme.narrow else across
    rows = -(-count // columns)
    size = (_NARROW_INCHES if theme.narrow else width, height * rows)
    figure = Figure(
        figsize=size, facecolor=theme.ground, layout=ConstrainedLayoutEngine(h_pad=pad, w_pad=pad)
    )
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def dress(axes: Axes, theme: Theme, title: str = "", grid: str = "", subtitle: str = "") -> None:
    """Give the axes the theme's colours, a title at the left, small print below it, and grid lines along `grid`.

    grid: "x", "y" or "xy".
    """
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
        pad = 22 if subtitle else 8
        axes.set_title(
            theme.wrapped(title), loc="left", fontsize=10.5, color=theme.ink, fontweight="bold", pad=pad
        )
    if subtitle:
        text = axes.annotate(
            subtitle,
            (0, 1),
            xytext=(0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            color=theme.faint,
        )
        # If it were wider than the axes, it would narrow all panels of a column.
        text.set_in_layout(False)


def legend(owner: Axes | Figure, theme: Theme, **options: Any) -> Legend:
    """Add a legend in the theme's colours to axes or to a whole figure."""
    return owner.legend(frameon=False, fontsize=9, labelcolor=theme.ink, **options)


def color_scale(drawn: Any, axes: Axes, theme: Theme, label: str = "", **options: Any) -> Colorbar:
    """Add the colour scale of `drawn`, e.g. a mesh, beside its axes."""
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, **{"aspect": 30, **options})
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.minorticks_off()
    bar.ax.tick_params(colors=theme.faint, labelsize=8, length=2)
    if label:
        bar.set_label(label, color=theme.faint, fontsize=8)
    return bar


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return buffer.getvalue()
