"""Plots of many runs: each arm that has a name can be told from the others, and no name hides a curve."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from curriculum_ray.runs.log import LoggedLine
from tests.tuning.studies import UNIFORM, record, schedule
from tuning.evidence.records import TrialRecord
from tuning.figures import plots
from tuning.figures.run_files import RunFiles
from tuning.figures.theme import DARK, LIGHT, Theme, to_png

RIVALS = [f"rival: {number}" for number in range(9)]
NAMED = ["best schedule", "rival: 0", "uniform control", "reversed control", "random control", "other rivals"]


def _arms() -> list[tuple[str, TrialRecord]]:
    plain: dict[str, Any] = {"control": "rival", "schedule": schedule(1, "none")}
    return [
        ("best schedule", record(7.0)),
        (RIVALS[0], record(7.5, **plain)),
        ("uniform control", record(8.0, **UNIFORM)),
        ("reversed control", record(8.5, control="reversed", schedule=schedule(20, "hard_to_easy"))),
        ("random control", record(8.6, control="random", schedule=schedule(20, "random"))),
        *((name, record(9.0, **plain)) for name in RIVALS[1:]),
    ]


def _losses(theme: Theme) -> Figure | None:
    runs = [
        (
            label,
            RunFiles(
                values, log=[LoggedLine(images=n * 64, loss=values.metrics["fid"] / n) for n in (1, 2, 3)]
            ),
        )
        for label, values in _arms()
    ]
    return plots.losses(runs, theme)


def _history(theme: Theme) -> Figure | None:
    lines = []
    for label, values in _arms():
        seen = tuple((n * 64, {"fid": values.metrics["fid"] / n}) for n in (1, 2, 3))
        kind = values.control if values.control in ("uniform", "rival") else values.order
        # Two seeds of each arm.
        lines += [(label, kind, values.model_copy(update={"history": seen}))] * 2
    return plots.history(lines, "fid", theme)


def _style(line: Line2D) -> tuple[Any, ...]:
    return line.get_color(), line.get_linestyle(), line.get_linewidth()


@pytest.mark.parametrize("theme", [LIGHT, DARK, LIGHT.for_telephones()])
@pytest.mark.parametrize("draw", [_losses, _history])
def test_each_name_has_a_style_of_its_own_and_stands_beside_the_curves(draw: Any, theme: Theme) -> None:
    figure = draw(theme)
    (axes,), (names,) = figure.axes, figure.legends
    assert sorted(text.get_text() for text in names.get_texts()) == sorted(NAMED)
    styles = {line.get_label(): _style(line) for line in axes.lines if not line.get_label().startswith("_")}
    assert sorted(styles) == sorted(NAMED)
    assert len(set(styles.values())) == len(NAMED)
    grey = [line for line in axes.lines if line.get_color() == theme.faint]
    assert len(grey) == (len(RIVALS) - 1) * (2 if draw is _history else 1)
    assert max(line.get_linewidth() for line in grey) < min(
        line.get_linewidth() for line in axes.lines if line not in grey
    )
    to_png(figure)
    assert not names.get_window_extent().overlaps(axes.get_window_extent())
    assert axes.get_position().height * figure.get_figheight() > 2, "the names leave room for the curves"


def test_losses_that_are_no_numbers_are_left_out() -> None:
    lines = [
        LoggedLine(images=64 * n, loss=loss) for n, loss in enumerate((0.5, math.nan, 0.0, 0.25, None), 1)
    ]
    figure = plots.losses([("best schedule", RunFiles(record(7.0), log=lines))], LIGHT)
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert line.get_xydata().tolist() == [[64, 0.5], [256, 0.25]]
    assert plots.losses([("best schedule", RunFiles(record(7.0), log=lines[:3]))], LIGHT) is None
