"""The map in a report: at which noise levels, and when, a confirmed arm is better or worse than uniform sampling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from tuning.evidence.arms import Ranking
from tuning.evidence.heldout import HeldoutMap, heldout_map
from tuning.evidence.metrics import count, percent
from tuning.figures.draw import drawn
from tuning.figures.levels import levels_axis
from tuning.figures.page import Html, paragraph, section, table
from tuning.figures.theme import Theme, color_scale, colormap, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_maps", "gains_by_level"]

_NOTE = (
    "Held-out items, noise and levels are the same for all arms, whatever levels their schedules train. Blue: the "
    "arm's loss is lower than uniform sampling's after as many images (better), orange: higher (worse), in percent, "
    "paired by seed and averaged over the seeds. A dot marks a difference smaller than its standard error over the "
    "seeds. A lower loss need not mean better samples."
)
# Percent up to which the colour scale is linear; beyond, it is logarithmic, up to twice the other's loss.
_LINEAR = 1.0
_SPAN = (2.0, 100.0)


def gains_by_level(ranking: Ranking) -> Html:
    """Return the section; empty where no confirmed arm was measured beside uniform sampling."""
    uniform = ranking.uniform
    if uniform is None:
        return Html()
    found = [heldout_map(arm, uniform) for arm in ranking.confirmed if arm is not uniform]
    maps = [each for each in found if each is not None]
    if not maps:
        return Html()
    most = max(
        (abs(gain) for each in maps for row in each.gain for gain in row if isfinite(gain)), default=0.0
    )
    span = min(max(most, _SPAN[0]), _SPAN[1])
    pictures = [
        drawn(
            partial(draw_maps, maps[place : place + 2], span),
            "gain in held-out loss over uniform sampling by noise level and images seen: "
            + "; ".join(each.name for each in maps[place : place + 2]),
        )
        for place in range(0, len(maps), 2)
    ]
    headings = ["arm", "mean over levels, at the end", "gains most at", "loses most at", "seeds"]
    return section(
        "Where it gains, by noise level",
        paragraph(_NOTE, faint=True),
        *pictures,
        table(headings, [_row(each) for each in maps]),
    )


def _row(found: HeldoutMap) -> list[object]:
    """The arm's row of the table; its best and worst level count if they exceed their standard error."""
    last = [
        (gain[-1], u)
        for gain, error, u in zip(found.gain, found.error, found.u, strict=True)
        if abs(gain[-1]) >= error[-1]
    ]
    best, worst = max(last, default=(0.0, 0.0)), min(last, default=(0.0, 0.0))
    return [
        found.name,
        f"{percent(found.mean, '+')}%" + ("" if found.seeds < 2 else f" ± {percent(found.mean_error)}"),
        f"u = {best[1]:.2f}: {percent(best[0], '+')}%" if best[0] > 0 else "–",
        f"u = {worst[1]:.2f}: {percent(worst[0], '+')}%" if worst[0] < 0 else "–",
        found.seeds,
    ]


def draw_maps(maps: Sequence[HeldoutMap], span: float, theme: Theme) -> Figure:
    """Draw maps side by side with one colour scale, from -span to span percent."""
    from matplotlib.colors import AsinhNorm

    figure, axes = new_panels(len(maps), 3.3, theme)
    norm: Any = AsinhNorm(linear_width=_LINEAR, vmin=-span, vmax=span)
    for place, (panel, found) in enumerate(zip(axes, maps, strict=True)):
        levels = len(found.u)
        edges = [0, *found.images]
        mesh = panel.pcolormesh(
            edges,
            [level / levels for level in range(levels + 1)],
            found.gain,
            cmap=colormap(theme.gains),
            norm=norm,
        )
        unsure = [
            ((edges[column] + edges[column + 1]) / 2, u)
            for u, gains, errors in zip(found.u, found.gain, found.error, strict=True)
            for column, (gain, error) in enumerate(zip(gains, errors, strict=True))
            if abs(gain) < error
        ]
        if unsure:
            panel.plot(*zip(*unsure, strict=True), ".", color=theme.faint, markersize=2.5)
        levels_axis(panel, theme, shorten(found.name, 110, placeholder=" …"))
        panel.set_title(
            theme.wrapped(shorten(found.name, 110, placeholder=" …"), 52),
            loc="left",
            fontsize=9.5,
            color=theme.ink,
            pad=6,
        )
        if place and not theme.narrow:
            panel.set_ylabel("")
        panel.xaxis.set_major_formatter(lambda value, _: count(value))
        panel.set_xlabel("images seen, each cell up to its measurement")
        below = min(min(row) for row in found.gain) < -span
        above = max(max(row) for row in found.gain) > span
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
            (below, above), "both"
        )
        bar = color_scale(mesh, panel, theme, aspect=22, extend=extend)
        ticks = _ticks(span)
        bar.set_ticks(ticks, labels=[f"{tick:+g}%".replace("-", "−") if tick else "0" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.set_title("better", fontsize=8, color=theme.faint, pad=9 if above else 4)
        bar.ax.set_xlabel("worse", loc="left", fontsize=8, color=theme.faint, labelpad=9 if below else 4)
    return figure


def _ticks(span: float) -> list[float]:
    """Percentages to label on the scale, on both sides of 0."""
    above = [tick for tick in (1.0, 3.0, 10.0, 30.0, 100.0) if tick <= span]
    return [-tick for tick in reversed(above)] + [0.0] + above
