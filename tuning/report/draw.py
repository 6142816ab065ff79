"""Plots in a page, once for light and once for dark screens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tuning.report.page import Html, figure, picture
from tuning.report.theme import DARK, LIGHT, Theme, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn"]


def drawn(draw: Callable[[Theme], Figure | None], alt: str, caption: object = "") -> Html | None:
    """Draw a plot in both themes."""
    light, dark = draw(LIGHT), draw(DARK)
    if light is None or dark is None:
        return None
    return figure(picture(to_png(light), alt, to_png(dark)), caption)
