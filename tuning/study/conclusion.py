"""What a study's run in MLflow says of its answer: tags, metrics, a description, the report and the table of trials."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curriculum_ray.files import replace_file
from tuning.evidence.answer import answer, as_sentence
from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.differences import Difference, against_uniform
from tuning.evidence.metrics import DIRECTIONS, in_order
from tuning.evidence.records import TrialRecord
from tuning.evidence.table import columns
from tuning.evidence.winner import choose
from tuning.folder.layout import TABLE_FILE
from tuning.tracking import Tracker

__all__ = ["conclude", "metrics_of", "note_of", "table_of"]

_ARMS_SHOWN = 20


def conclude(tracker: Tracker, run: str, ranking: Ranking, report: Path) -> None:
    """Store the answer of a study that has ended in its run. Steps of its metrics are the trials that have ended.

    The table of trials is written beside the report, and stored with it.
    """
    choice = choose(ranking)
    tracker.tags(run, {"answer": answer(ranking)})
    if choice is not None:
        curriculum = choice.curriculum
        tracker.tags(
            run,
            {"verdict": choice.verdict, "best_arm": curriculum.name, "best_arm_id": curriculum.arm_id},
        )
        tracker.sample(run, metrics_of(ranking, curriculum), len(ranking.records))
    tracker.note(run, note_of(ranking))
    table = report.with_name(TABLE_FILE)
    replace_file(table, json.dumps(table_of(ranking.records)))
    tracker.artifacts(run, [report])
    tracker.table(run, table)


def metrics_of(ranking: Ranking, curriculum: Arm) -> dict[str, float]:
    """Best and uniform on the same seeds by every metric, and the gain by the study's in percent, with its interval.

    Names begin with `fresh_` where the seeds were fresh, else with `search_`, as those flatter what was chosen.
    Training losses are left out: each is of the noise levels that its run drew.
    """
    uniform = ranking.uniform
    found: dict[str, float] = {}
    kind = "fresh" if curriculum.confirmed else "search"
    runs = curriculum.confirmed or curriculum.searched
    for metric in _measured(ranking.records):
        if metric == "loss" or not all(metric in record.metrics for record in runs):
            continue
        best, beside, seeds = side_by_side(curriculum, uniform, metric)
        found |= {f"{kind}_best_{metric}": best, f"{kind}_seeds": float(seeds)}
        if beside is not None:
            found[f"{kind}_uniform_{metric}"] = beside
    ours = (each for each in against_uniform(ranking) if each.key == curriculum.arm_id)
    gained = next(ours, None)
    if gained is not None:
        found |= _gain(gained)
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _gain(found: Difference) -> dict[str, float]:
    ends = {} if found.low is None or found.high is None else {"low": found.low, "high": found.high}
    gain = {f"gain_percent_{end}": found.percent(value) for end, value in ends.items()}
    return {"gain_percent": found.percent(found.mean), **gain}


def note_of(ranking: Ranking) -> str:
    """The answer and the arms, the best first, in Markdown."""
    shown = columns(ranking)
    rows = [[" ".join(column.title) for column in shown], ["---"] * len(shown)]
    rows += [[column.text(arm) for column in shown] for arm in ranking.arms[:_ARMS_SHOWN]]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    left = len(ranking.arms) - _ARMS_SHOWN
    more = f"\n\nand {left} more in `{TABLE_FILE}`" if left > 0 else ""
    return f"**{as_sentence(answer(ranking), ranking)}**\n\n{chr(10).join(lines)}{more}\n"


def table_of(records: Iterable[TrialRecord]) -> dict[str, list[Any]]:
    """All trials as MLflow's pages read a table: a row for each, in the order in which they started."""
    records = list(records)
    measured = _measured(records)
    names = ("key", "name", "role", "control", "seed", "status", "images", "seconds")
    rows = [
        [
            *(getattr(record, name) for name in names),
            *(record.metrics.get(metric) for metric in measured),
            record.walked,
            record.arm_id,
            record.schedule_id,
            record.reason,
        ]
        for record in sorted(records, key=lambda record: record.trial)
    ]
    titles = [*names, *measured, "stages walked", "arm_id", "schedule_id", "reason"]
    return {"columns": titles, "data": rows}


def _measured(records: Iterable[TrialRecord]) -> list[str]:
    """All metrics, and those of further scales of guidance where a trial has them."""
    return in_order({*DIRECTIONS, *(name for record in records for name in record.metrics)})
