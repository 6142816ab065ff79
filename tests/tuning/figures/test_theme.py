"""Figures in the theme: panels beside one another, below one another on a telephone, and no state of matplotlib's."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tuning.figures.theme import DARK, LIGHT, Theme, dress, new_panels, to_png


@pytest.mark.parametrize(("theme", "columns"), [(LIGHT, [0, 1, 0]), (LIGHT.for_telephones(), [0, 0, 0])])
def test_panels_stand_below_one_another_on_a_narrow_screen(theme: Theme, columns: list[int]) -> None:
    figure, panels = new_panels(3, 2.0, theme)
    assert [panel.get_subplotspec().colspan.start for panel in panels] == columns
    assert len(figure.axes) == 3, "the place that is left over is empty"
    assert figure.get_figheight() == 2.0 * (3 if theme.narrow else 2)
    assert (figure.get_figwidth() < 5) == theme.narrow


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_figure_has_the_themes_ground(theme: Theme) -> None:
    figure, (axes,) = new_panels(1, 2.0, theme, 1)
    dress(axes, theme, "title", "xy", "subtitle")
    with Image.open(io.BytesIO(to_png(figure))) as image:
        corner = image.convert("RGB").getpixel((0, 0))
    assert corner == tuple(bytes.fromhex(theme.ground.removeprefix("#")))


def test_a_long_subtitle_does_not_narrow_the_panel() -> None:
    widths = []
    for subtitle in ("short", "long " * 60):
        figure, (axes,) = new_panels(1, 2.0, LIGHT, 1)
        dress(axes, LIGHT, "title", subtitle=subtitle)
        to_png(figure)
        widths.append(axes.get_position().width)
    assert widths[0] == pytest.approx(widths[1])
