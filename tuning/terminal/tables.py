"""The table at the end of a search: the best schedules beside the controls."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from curriculum_ray.words import number_of
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.records import TrialRecord
from tuning.evidence.scale import means
from tuning.evidence.short_names import UNIFORM
from tuning.evidence.table import Column, columns

__all__ = ["FinalTable", "final_table", "top_and_controls"]

_NAME = 12
"""The least width of the names."""
_BETWEEN, _EDGES = 3, 2
"""Characters between two columns, and beside them."""


def top_and_controls(ranking: Ranking, best: int) -> list[Arm]:
    """Return the `best` best searched schedules, all other arms with fresh seeds and all controls, in one ranking."""
    result = []
    for arm in ranking.arms:
        if arm.control is None:
            best -= 1
            if best < 0 and not arm.confirmed:
                continue
        result.append(arm)
    return result


def final_table(records: Iterable[TrialRecord], metric: str = "fid", best: int = 5) -> FinalTable:
    """Return the best schedules and the controls as a table that fits the width of rich's console."""
    return FinalTable(Ranking.of(records, metric), best)


class FinalTable:
    """Metrics of each schedule in the search and on fresh seeds, its gain over uniform sampling, and its budget."""

    def __init__(self, ranking: Ranking, best: int) -> None:
        self.rows, self._ranking = top_and_controls(ranking, best), ranking

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table(options.max_width)
        yield Text()
        yield self.legend()

    def legend(self) -> Table:
        """What the short names stand for, below the table, broken between words."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column()
        for arm in self.rows:
            if arm.name not in (arm.description, UNIFORM):
                grid.add_row(Text(arm.name), Text(arm.description, "dim"))
        return grid

    def _fitting(self, width: int) -> list[Column]:
        """The columns that a console of this width holds whole, those of the widest consoles left out first."""
        names, *others = (each for each in columns(self._ranking) if width >= each.least_width)
        widths = {
            each.title: _BETWEEN + max(map(cell_len, [*each.title, *(each.text(arm) for arm in self.rows)]))
            for each in others
        }
        # Of those for equally wide consoles the last goes first.
        further = sorted((each for each in others if each.least_width), key=lambda each: each.least_width)
        while further and _NAME + _EDGES + sum(widths[each.title] for each in others) > width:
            others.remove(further.pop())
        return [names, *others]

    def table(self, width: int) -> Table:
        """Return the table for a console of `width` columns."""
        shown = self._fitting(width)
        schedule, *others = shown
        caption = f"gain: improvement over uniform sampling with the same seeds{means(self._ranking.metric)}"
        if ("stages",) in [each.title for each in others]:
            caption += "; stages: walked of those asked for"
        if left := len(self._ranking.arms) - len(self.rows):
            caption += f"; {number_of(left, 'schedule', 'more ')} in the report"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
        table.add_column(
            "\n".join(schedule.title),
            min_width=_NAME,
            max_width=max(24, width - 10 * len(others)),
            overflow="fold",
        )
        for each in others:
            table.add_column("\n".join(each.title), justify="right", no_wrap=True)
        for arm in self.rows:
            texts = [Text(each.text(arm)) for each in shown]
            table.add_row(*texts, style="bold" if arm is self.rows[0] else "")
        return table
