"""The map in a report: who is better is the right colour, what is not sure is marked, and no data draw nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tests.tuning.evidence.test_heldout import measured, ranked, two_arms
from tuning.evidence.heldout import HeldoutMap, heldout_map
from tuning.figures.theme import DARK, LIGHT, Theme
from tuning.report.heldout import draw_maps, gains_by_level

BETTER_WHERE_CLEAN = {
    1: measured([[0.90, 1.98, 2.2], [0.8, 2.02, 2.2]]),
    2: measured([[1.81, 4.1, 4.4], [1.6, 3.9, 4.4]]),
}
UNIFORM = {1: measured([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0]]), 2: measured([[2.0, 4.0, 4.0], [2.0, 4.0, 4.0]])}


@pytest.mark.parametrize("theme", [LIGHT, DARK, LIGHT.for_telephones()])
def test_better_is_blue_worse_orange_and_what_is_within_its_error_has_a_dot(theme: Theme) -> None:
    found = heldout_map(*two_arms(BETTER_WHERE_CLEAN, UNIFORM))
    assert found is not None
    figure = draw_maps([found], 20.0, theme)
    panel = figure.axes[0]
    mesh = panel.collections[0]
    colours = mesh.to_rgba(mesh.get_array()).reshape(3, 2, 4)
    red, blue = colours[..., 0], colours[..., 2]
    assert (blue[0] > red[0]).all(), "the clean level gains"
    assert (red[2] > blue[2]).all(), "the noisy level pays"
    neutral = mesh.to_rgba(0.0)[:3]
    assert neutral == pytest.approx(to_rgb(theme.gains[3]), abs=0.02)
    (dots,) = panel.lines
    assert sorted(set(dots.get_ydata())) == [0.5], "only the middle level is not sure"
    assert len(dots.get_xdata()) == 2
    assert panel.get_ylim() == (0, 1)
    assert panel.get_xlim() == (0, 200)


def test_the_section_says_where_the_arm_gains_and_pays_at_the_end() -> None:
    text = gains_by_level(ranked(BETTER_WHERE_CLEAN, UNIFORM))
    assert "u = 0.17: +20.0%" in text
    assert "u = 0.83: -10.0%" in text
    assert text.count("<picture>") == 1


def test_a_study_without_measurements_or_without_uniform_sampling_has_no_section() -> None:
    assert gains_by_level(ranked({1: None}, {1: None})) == ""
    assert gains_by_level(ranked(BETTER_WHERE_CLEAN, {})) == ""


def test_a_level_that_uniform_sampling_has_learnt_to_the_end_leaves_the_scale_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans: list[float] = []

    def draw(maps: Sequence[HeldoutMap], span: float, theme: Theme) -> Figure:
        spans.append(span)
        return draw_maps(maps, span, theme)

    monkeypatch.setattr("tuning.report.heldout.draw_maps", draw)
    text = gains_by_level(ranked(BETTER_WHERE_CLEAN, {**UNIFORM, 1: measured([[0.0, 2.0, 2.0]] * 2)}))
    assert "u = 0.83: -10.0%" in text
    assert spans == [pytest.approx(10.0)] * 4
