"""The table of claims in a terminal, and the claims themselves without their results."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from tuning.claims import words
from tuning.claims.claim import Claim
from tuning.claims.results import ClaimsTable

__all__ = ["ShownClaims", "described"]

# A narrower terminal omits the setting, the date and the protocol.
_WIDE = 140


class ShownClaims:
    """One row for each claim."""

    def __init__(self, table: ClaimsTable) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("claim", min_width=10)
        if wide:
            table.add_column("setting")
        table.add_column("against\nuniform")
        table.add_column("difference\n[95%]")
        table.add_column("seeds")
        table.add_column("conclusion", min_width=14)
        if wide:
            table.add_column("date", no_wrap=True)
            table.add_column("protocol", no_wrap=True)
        for entry in self._table.claims:
            result = entry.result
            first = None if result is None else result.arms[0]
            more = ["–"] if result is None else [words.setting(result.setting)]
            last = ["–", "–"] if result is None else [result.date, words.protocol(result)]
            cells = [
                entry.name,
                *(more if wide else []),
                "–" if first is None else words.verdict(first.against_uniform, entry.margin),
                "–" if first is None else words.difference(first),
                words.seeds(entry),
                words.conclusion(entry),
                *(last if wide else []),
            ]
            table.add_row(*map(Text, cells))
        yield table


def described(claims: Sequence[Claim]) -> list[str]:
    """Each claim in a few lines: its source, what it says, its arms, and the most runs that it takes."""
    lines = []
    for claim in claims:
        least, most = claim.seeds
        runs = len(claim.arms) + 1
        lines += [
            f"{claim.name}: {claim.source.in_words()}, {claim.source.where}",
            f"  says: {claim.says}",
            f"  asks: {claim.asks}",
            *(f"  {arm.role:8} {name}: {arm.about}" for name, arm in claim.arms.items()),
            f"  {claim.run.data.name}, {claim.run.total_images:,} images a run, {least * runs} to {most * runs} runs, "
            f"margin {100 * claim.margin:g}%",
            "",
        ]
    return lines
