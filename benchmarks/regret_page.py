"""How replayed searches are shown: tables in Markdown, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuning.figures.theme import LIGHT, dress, legend, new_panels, to_png

__all__ = ["MARKS", "draw", "in_words", "tables"]

MARKS = ("<!-- make bench-sampler-choice -->", "<!-- end -->")
"""Between these stand the tables on the page."""


def tables(result: Mapping[str, Mapping[str, Any]], default: str) -> str:
    """Regret, difference and curse in percent of uniform sampling's FID, as tables in Markdown."""
    lengths = sorted({length for row in result["regret"].values() for length in row})
    titles = {
        "regret": "Regret",
        "against_default": f"Regret minus that of {default}",
        "curse": "Winner's curse",
    }
    lines = []
    for kind, title in titles.items():
        lines += [f"{title}, % of uniform sampling's FID, with 95% intervals:", ""]
        heads = " | ".join(f"{f'{length} full runs':>20}" for length in lengths)
        lines += [f"| {'search':24} | {heads} |", "|" + "---|" * (1 + len(lengths))]
        for name, row in result[kind].items():
            cells = " | ".join(f"{_percent(row.get(length)):>20}" for length in lengths)
            lines.append(f"| {name:24} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _percent(each: Mapping[str, float] | None) -> str:
    if each is None:
        return "too few schedules"
    mean, low, high = (100 * each[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def in_words(facts: Mapping[str, float], schedules: int, uniform: float) -> str:
    """What the table itself says, in a paragraph."""
    share = {name: f"{facts[name]:.1%}" for name in ("better_than_uniform", "best", "seed_sd", "spread_sd")}
    return (
        f"{schedules} schedules; uniform sampling has a FID of {uniform:.2f}. {share['better_than_uniform']} of them\n"
        f"are better over two seeds; the best has {share['best']} of it. Among the better ones, in shares of it,\n"
        f"the noise of a run has a deviation of {share['seed_sd']} and the schedules' own scores one of\n"
        f"{share['spread_sd']}. Rank correlation with the FID of seed 1: {facts['rank_other_seed']:.2f} for seed 0,\n"
        f"{facts['rank_quarter']:.2f} for the run at a quarter of the budget."
    )


def draw(
    regret: Mapping[str, Mapping[int, Mapping[str, float]]],
    samplers: Sequence[str],
    kinds: Sequence[str],
    path: Path,
) -> None:
    """One panel a sampler: regret against the images spent."""
    figure, panels = new_panels(len(samplers), 3.4, LIGHT, pad=0.1)
    colours = [
        LIGHT.kinds[kind] for kind in ("uniform", "easy_to_hard", "random", "rival", "hard_to_easy", "other")
    ]
    ticks = sorted({length for row in regret.values() for length in row})
    for axes, sampler in zip(panels, samplers, strict=True):
        dress(axes, LIGHT, sampler, "xy")
        for kind, colour in zip(kinds, colours, strict=True):
            if (row := regret.get(sampler + kind)) is None:
                continue
            lengths, means = list(row), [100 * each["mean"] for each in row.values()]
            axes.plot(
                lengths,
                means,
                color=colour,
                marker="o",
                markersize=4,
                label=kind.removeprefix(", ") or "plain",
            )
            if not kind:
                low, high = ([100 * each[end] for each in row.values()] for end in ("low", "high"))
                axes.fill_between(lengths, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(length) for length in ticks])
        axes.set_xlabel("images spent, in full runs")
        axes.set_ylabel("regret, % of uniform sampling's FID")
    top = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0, top)
    legend(panels[-1], LIGHT, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
