"""Confirmation in a report: gains over uniform sampling on fresh seeds, as plots and tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from curriculum_ray.words import capitalized
from tuning.evidence.arms import Ranking
from tuning.evidence.compared import Turn, difference
from tuning.evidence.devices import mixed_pairs
from tuning.evidence.differences import Difference
from tuning.evidence.metrics import is_positive, metric_name, number, percent, within
from tuning.figures import plots
from tuning.figures.draw import drawn
from tuning.figures.page import Html, details, paragraph, section, table, tag

__all__ = ["confirmation"]

_TRAINED = {
    "schedule": "Each schedule and uniform sampling were trained again on seeds that the search never saw",
    "arm": "Each arm and uniform sampling were trained on the same seeds",
}
_NOTE = (
    "{trained}; they share "
    "the initialisation, the data order and the sampling noise of each seed, and are compared in pairs. The "
    "intervals against uniform sampling hold together with 95% confidence, whenever one looks, so that seeds may be "
    "added. Arms are equal where the interval lies within {margin} of the other's metric.{means}"
)
_MEANS = (
    " A gain in {metric} is that of geometric means over the seeds, which one poor seed sways less than the means "
    "beside it: the two may differ, even in sign."
)


def confirmation(
    ranking: Ranking,
    differences: Sequence[Difference],
    second: Sequence[Difference] = (),
    turns: Sequence[Turn] = (),
) -> Html:
    """Return the section; empty without differences.

    second: the schedules against the best one-line rival. turns: the first of several named arms against the others.
    """
    if not differences:
        return Html()
    metric, confirmed = ranking.metric, ranking.confirmed
    name = metric_name(metric)
    values = {arm.arm_id: arm.by_seed(metric) for arm in confirmed}
    headings = [ranking.noun, name, "uniform", "gain", "gain in percent", "seeds", ""]
    uniform = {} if ranking.uniform is None else ranking.uniform.by_seed(metric)
    rows = [_row(found, values[found.key], uniform) for found in differences]
    seeds = sorted({seed for arm in values.values() for seed in arm})
    each = table(
        [ranking.noun, *(f"seed {seed}" for seed in seeds)],
        [[arm.name, *(number(values[arm.arm_id].get(seed)) for seed in seeds)] for arm in confirmed],
    )
    return section(
        "Confirmation on fresh seeds",
        paragraph(
            _NOTE.format(
                trained=_TRAINED[ranking.noun],
                margin=within(ranking.margin),
                means=_MEANS.format(metric=name) if is_positive(metric) else "",
            ),
            faint=True,
        ),
        paragraph(f"{capitalized(said)}.") if (said := mixed_pairs(ranking)) else None,
        drawn(lambda theme: plots.confirmation(differences, metric, theme), "gains with their intervals"),
        table(headings, rows),
        *_rival(second, values, ranking),
        *_in_turn(turns, ranking.margin),
        details(f"{name} of each seed", each),
    )


def _rival(
    second: Sequence[Difference], values: Mapping[str, Mapping[int, float]], ranking: Ranking
) -> list[Html | None]:
    if not second:
        return []
    rival, metric = second[0].against, ranking.metric
    note = (
        f"The second question: does a schedule beat the best one-line rival, {rival}? It is asked only of "
        "schedules that beat uniform sampling (and of all where the rival beats uniform sampling and every "
        "schedule); for the others the difference is shown and decides nothing."
    )
    headings = ["schedule", metric_name(metric), "rival", "gain", "gain in percent", "seeds", ""]
    (beside,) = (values[arm.arm_id] for arm in ranking.confirmed if arm.name == rival)
    rows = [_row(found, values[found.key], beside) for found in second]
    return [
        paragraph(note),
        drawn(lambda theme: plots.confirmation(second, metric, theme, rival), "gains over the best rival"),
        table(headings, rows),
    ]


def _in_turn(turns: Sequence[Turn], margin: float) -> list[Html | None]:
    if not turns:
        return []
    first = turns[0].name
    note = (
        f"The second question: does {first}, the first arm, beat the others? They are asked about in turn, as long as "
        "it wins; for those after that the difference is shown and decides nothing. Seeds are added until these "
        "answers stand too."
    )
    rows = [
        [
            f"{first} against {turn.against}",
            difference(turn.compared),
            "–" if turn.compared is None else f"{turn.compared.seeds}{turn.compared.failures(turn.against)}",
            turn.verdict(margin),
        ]
        for turn in turns
    ]
    return [paragraph(note), table(["arms", "gain in percent", "seeds", ""], rows)]


def _row(found: Difference, ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[object]:
    value = statistics.fmean(ours[seed] for seed in ours.keys() & theirs.keys())
    gain, share = f"{found.mean:+.3g}", f"{percent(found.percent(found.mean), '+')}%"
    if found.low is not None and found.high is not None:
        gain += f" [{found.low:+.3g}, {found.high:+.3g}]"
        share += f" [{percent(found.percent(found.low), '+')}, {percent(found.percent(found.high), '+')}]"
    if not found.control:
        share = "–"
    outcome: object = found.answer
    if found.answer == "equal":
        outcome = f"equal within {within(found.margin)}"
    elif found.answer in ("beats", "loses"):
        outcome = tag("span", found.answer, class_="good" if found.beats else "bad")
    return [
        found.name,
        number(value),
        number(found.control),
        gain,
        share,
        f"{found.seeds}{found.failures}",
        outcome,
    ]
