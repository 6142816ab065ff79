"""Figures of a page, for light and for dark screens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tuning.figures.page import Html, figure, picture
from tuning.figures.theme import DARK, LIGHT, Theme, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn"]


def drawn(draw: Callable[[Theme], Figure | None], alt: str, caption: object = "") -> Html | None:
    """Draw a figure in both themes, each for wide and for narrow screens."""
    plots = [draw(theme) for theme in (LIGHT, DARK, LIGHT.for_telephones(), DARK.for_telephones())]
    pngs = [to_png(plot) for plot in plots if plot is not None]
    if len(pngs) < len(plots):
        return None
    return figure(picture(pngs[0], alt, *pngs[1:]), caption)
