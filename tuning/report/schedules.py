"""Small multiples of the searched schedules: the requested density of each beside the sampled noise levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuning.evidence.arms import Ranking
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.records import TrialRecord
from tuning.figures.draw import drawn
from tuning.figures.levels import density_scale
from tuning.figures.page import Html, details, paragraph, section, table
from tuning.figures.run_files import RunFiles, read_run
from tuning.figures.theme import Theme, colormap, new_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["small_multiples"]

MOST = 48
"""The best schedules that are drawn; the table lists all of them."""


def small_multiples(ranking: Ranking) -> Html:
    """Return the section: plots of the best schedules, and the images in each stage of all; empty without any."""
    records = [arm.searched[0] for arm in ranking.tried if arm.searched]
    if not records:
        return Html()
    runs = [read_run(record) for record in records[:MOST]]
    cut = sum(1 for record in records if record.stages_walked != record.stages_asked)
    words = (
        "Left what each schedule asked for, right what was sampled; noise is at the top, training goes to the right, "
        "and the colours are those of the large pictures. "
        + (
            f"{cut} of {len(records)} schedules did not walk all of their stages."
            if cut
            else "Every schedule walked all of its stages."
        )
        + (f" The best {MOST} are drawn." if len(records) > MOST else "")
        + (
            " Importance sampling depends on the losses: the left picture is without it."
            if any(run.active and run.active.importance for run in runs)
            else ""
        )
    )
    rows = [[record.key, record.arm, record.walked or "–", _lengths(record)] for record in records]
    headings = ["run", "schedule", "stages walked", "images in each stage"]
    return section(
        "What each schedule trained on",
        paragraph(words, faint=True),
        drawn(
            lambda theme: _draw(runs, ranking.metric, theme), "asked and sampled densities of every schedule"
        ),
        details("images in each stage", table(headings, rows)),
    )


def _lengths(record: TrialRecord) -> str:
    return " ".join(count(images) for images in record.images_in_stage) or "–"


def _draw(runs: Sequence[RunFiles], metric: str, theme: Theme) -> Figure | None:
    shown = [run for run in runs if run.active is not None and run.sampled is not None]
    if not shown:
        return None
    figure, panels = new_panels(2 * len(shown), 1.25, theme, 6, 2)
    for run, asked, sampled in zip(shown, panels[::2], panels[1::2], strict=True):
        active, data, record = run.active, run.sampled, run.record
        assert active is not None
        assert data is not None
        _panel(asked, active.starts, active.edges, list(zip(*active.densities, strict=True)), theme)
        _panel(sampled, data.images, data.u, list(zip(*data.densities, strict=True)), theme)
        score = number(record.metrics.get(metric))
        asked.set_title(
            f"{record.key}  {metric_name(metric)} {score}  {record.walked or '–'} stages",
            loc="left",
            fontsize=7.5,
            color=theme.ink,
            pad=3,
        )
    return figure


def _panel(axes: Axes, x: Sequence[float], y: Sequence[float], values: Sequence[Any], theme: Theme) -> None:
    top = max(max(row) for row in values)
    axes.pcolormesh(
        x, y, values, cmap=colormap(theme.density), norm=density_scale(min(top, 32.0)), rasterized=True
    )
    axes.set_facecolor(theme.ground)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(theme.grid)
