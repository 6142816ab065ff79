"""The table at the end of a search: the best schedules beside the controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.metrics import count, gain, metric_name, number
from tuning.evidence.records import TrialRecord

__all__ = ["FinalTable", "final_table", "top_and_controls"]

# Below this many columns the table keeps to the metric of the search.
_WIDE = 120
# Below this many it leaves out how much of its ladder each schedule walked.
_ROOMY = 80


def top_and_controls(ranking: Ranking, best: int) -> list[Arm]:
    """Return the `best` best searched schedules and all controls, in one ranking, fresh seeds first."""
    result = []
    for arm in ranking.arms:
        if arm.control is None:
            best -= 1
            if best < 0:
                continue
        result.append(arm)
    return result


def final_table(records: Iterable[TrialRecord], metric: str = "fid", best: int = 5) -> FinalTable:
    """Return the best schedules and the controls, to be printed by rich at the width of its console."""
    return FinalTable(Ranking.of(records, metric), best)


class FinalTable:
    """Metrics of each schedule in the search and on fresh seeds, gain over uniform sampling, budget."""

    def __init__(self, ranking: Ranking, best: int) -> None:
        self.rows, self.metric = top_and_controls(ranking, best), ranking.metric
        self._uniform = ranking.uniform

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table(options.max_width)

    def table(self, width: int) -> Table:
        """Return the table for a console of `width` columns."""
        metric, name = self.metric, metric_name(self.metric)
        others = [other for other in ("fid", "kid", "precision", "recall") if other != metric]
        others = others if width >= _WIDE else []
        roomy = width >= _ROOMY
        fresh = any(arm.confirmed for arm in self.rows)
        caption = "gain: improvement over uniform sampling with the same seeds"
        if roomy:
            caption += "; stages: walked of those asked for"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
        table.add_column("schedule", max_width=max(24, width - 50 - 8 * roomy - 11 * len(others)))
        headings = [f"{name}\nsearch", *[f"{name}\nfresh seeds"] * fresh, "gain", *map(metric_name, others)]
        for heading in (*headings, *["stages"] * roomy, "images", "seeds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for arm in self.rows:
            value, beside, seeds = side_by_side(arm, self._uniform, metric)
            better = "–" if beside is None or arm.is_uniform else f"{gain(value, beside, metric):+.1f}%"
            runs = arm.confirmed or arm.searched
            table.add_row(
                Text(arm.name if arm.control in (None, "uniform") else f"{arm.control}: {arm.name}"),
                number(arm.search_value(metric)),
                *[number(arm.confirmed_value(metric))] * fresh,
                better,
                *(number(_mean(runs, other)) for other in others),
                *[arm.stages] * roomy,
                count(max(record.images for record in runs)),
                str(seeds),
                style="bold" if arm is self.rows[0] else "",
            )
        return table


def _mean(runs: Sequence[TrialRecord], metric: str) -> float | None:
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return sum(values) / len(values) if len(values) == len(runs) else None
