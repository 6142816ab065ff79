"""`report.html`: what a study found, how sure that is, and how to get it again."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.files import replace_file
from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.differences import against_rival, against_uniform, answer
from tuning.evidence.metrics import count, gain, metric_name, number
from tuning.evidence.records import TrialRecord
from tuning.evidence.speed import speed_up
from tuning.figures import plots
from tuning.figures.draw import drawn
from tuning.figures.page import (
    Html,
    details,
    figure,
    join,
    page,
    paragraph,
    picture,
    section,
    table,
    tag,
    tiles,
)
from tuning.figures.run_files import RunFiles, read_run
from tuning.report.confirmed import confirmation
from tuning.report.explored import Explored, explored, read_explored
from tuning.report.heldout import gains_by_level
from tuning.report.ladders import ladders
from tuning.report.levels import difficulty, read_difficulty
from tuning.report.reproduce import again, failures, protocol
from tuning.report.way import label, way

__all__ = ["build_report"]

_METRICS = ("fid", "kid", "precision", "recall")


def build_report(records: Sequence[TrialRecord], study: Mapping[str, Any], output: Path) -> Path:
    """Write report.html into the folder `output` and return its path.

    records: the trials that ended. study: "name" and "metric", and, where known, "experiment", "settings" (a
    nested mapping), "commands" (pairs of what they do and the command).
    """
    metric = study.get("metric", "fid")
    ranking = Ranking.of(records, metric)
    shown = [arm for arm in (ranking.best, ranking.uniform) if arm is not None]
    runs = {arm.arm_id: read_run(arm.records[0]) for arm in (*shown, *ranking.confirmed)}
    differences = against_uniform(ranking)
    parts = [
        tag("h1", " · ".join(str(study[key]) for key in ("name", "experiment") if study.get(key))),
        *_answer(answer(ranking)),
        tiles(_numbers(ranking)),
        confirmation(ranking, differences, against_rival(ranking)),
        gains_by_level(ranking),
        _table(ranking),
        _trials(ranking),
        ladders(ranking),
        explored(_searched(study, output), metric),
        _schedule(ranking.best, runs),
        _others(ranking, runs),
        way(ranking),
        _losses(ranking, runs),
        _samples([*shown, *([ranking.rival] if ranking.rival else [])], runs, metric),
        failures(records),
        protocol(records),
        again(study, output),
    ]
    path = output / "report.html"
    replace_file(path, page(f"{study.get('name', 'study')}: report", join(parts)))
    return path


def _searched(study: Mapping[str, Any], output: Path) -> Explored | None:
    storage, name = study.get("optuna", (None, "curriculum"))
    return read_explored(output, storage, name)


def _answer(text: str) -> list[Html]:
    """The first question's answer stands out; the second's, which is about rivals, follows it."""
    first, *more = (f"{part[:1].upper()}{part[1:]}." for part in text.split("; "))
    return [tag("p", first, class_="answer"), *(tag("p", part, class_="also") for part in more)]


def _numbers(ranking: Ranking) -> list[tuple[str, str]]:
    best, rival, metric, records = ranking.best, ranking.rival, ranking.metric, ranking.records
    name = metric_name(metric)
    result = []
    if best is not None:
        value, beside, seeds = side_by_side(best, ranking.uniform, metric)
        kind = f"mean of {seeds} fresh seeds" if best.confirmed else "in the search"
        result.append((f"{name} of the best schedule, {kind}", number(value)))
        result.append((f"{name} of uniform sampling, the same", number(beside)))
        if rival is not None:
            result.append((f"{name} of the best rival, {rival.name}", number(rival.confirmed_value(metric))))
        for found in speed_up(ranking):
            if found.key == best.arm_id and found.images is not None:
                interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
                words = f"as fast to uniform sampling's last preview{interval}"
                result.append((words, f"{found.ratio:.2f} ×"))
        result.append(("images seen in each run", count(max(record.images for record in best.records))))
    ends = Counter(record.status for record in records)
    result.append(
        (f"trials: {', '.join(f'{many} {status}' for status, many in ends.items())}", str(len(records)))
    )
    seconds = sum(record.seconds or 0 for record in records)
    result.append(("minutes of training and evaluation", f"{seconds / 60:.1f}"))
    return result


def _table(ranking: Ranking) -> Html:
    metric, uniform = ranking.metric, ranking.uniform
    name = metric_name(metric)
    others = [other for other in _METRICS if other != metric]
    rows = []
    for arm in ranking.arms:
        value, beside, seeds = side_by_side(arm, uniform, metric)
        percent = None if beside is None or arm.is_uniform else gain(value, beside, metric)
        runs = arm.confirmed or arm.searched
        rows.append(
            [
                arm.name if arm.control in (None, "uniform") else f"{arm.name} ({arm.control} control)",
                number(arm.search_value(metric)),
                number(arm.confirmed_value(metric)),
                "–" if percent is None else f"{percent:+.1f}%",
                *(number(_mean(runs, other)) for other in others),
                arm.stages,
                count(max(record.images for record in runs)),
                seeds,
            ]
        )
    headings = [
        "schedule",
        f"{name}, search",
        f"{name}, fresh seeds",
        "gain",
        *map(metric_name, others),
        "stages walked",
        "images",
        "seeds",
    ]
    place = None if ranking.best is None else ranking.arms.index(ranking.best)
    note = (
        "Gain: improvement over uniform sampling on the same seeds. Schedules with fresh seeds stand first: "
        "a score in the search flatters whatever the search chose."
    )
    return (
        section("All schedules", paragraph(note, faint=True), table(headings, rows, place))
        if rows
        else Html()
    )


def _mean(runs: Sequence[TrialRecord], metric: str) -> float | None:
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return statistics.fmean(values) if len(values) == len(runs) else None


def _trials(ranking: Ranking) -> Html:
    if not ranking.arms:
        return Html()
    alt = f"{metric_name(ranking.metric)} of each run by the direction of its order"
    return section("Every run", drawn(lambda theme: plots.trials(ranking, theme), alt))


def _schedule(best: Arm | None, runs: Mapping[str, RunFiles]) -> Html:
    if best is None:
        return Html()
    run = runs[best.arm_id]
    text = write_yaml(best.records[0].drawn_by.model_dump(mode="json"), width=100)
    caption = "Which noise levels are drawn as training goes on; orange ticks mark the start of a stage."
    return section(
        "The best schedule",
        paragraph(best.name),
        drawn(lambda theme: plots.schedule(run, theme), "density of noise levels over images seen", caption),
        difficulty(read_difficulty(best.records[0])),
        details("schedule.yaml", tag("pre", text)),
    )


def _others(ranking: Ranking, runs: Mapping[str, RunFiles]) -> Html:
    """Draw the other arms that were run on fresh seeds, each as in its first run."""
    parts: list[Html] = []
    for arm in ranking.confirmed:
        if arm is not ranking.best:
            run = runs[arm.arm_id]
            alt = f"density of noise levels over images seen: {arm.name}"
            if plot := drawn(partial(plots.schedule, run), alt):
                parts += [paragraph(arm.name), plot]
    return section("What else was confirmed", *parts)


def _losses(ranking: Ranking, runs: Mapping[str, RunFiles]) -> Html:
    best = ranking.best
    chosen = [arm for arm in ranking.arms if arm is best or arm.control is not None]
    labelled = [
        (
            label(arm, best),
            runs.get(arm.arm_id) or read_run(arm.records[0]),
        )
        for arm in sorted(chosen, key=lambda arm: arm is not best)
    ]
    alt = "training loss over images seen"
    return section("Training", drawn(lambda theme: plots.losses(labelled, theme), alt))


def _samples(shown: Sequence[Arm], runs: Mapping[str, RunFiles], metric: str) -> Html:
    grids = []
    for arm in shown:
        run = runs[arm.arm_id]
        if run.samples is not None:
            value = number(run.record.metrics[metric])
            caption = f"{arm.name}: {metric_name(metric)} {value}, seed {run.record.seed}"
            grids.append(figure(picture(run.samples, f"samples of {arm.name}"), caption))
    if not grids:
        return Html()
    return section("Samples, from the same noise", tag("div", join(grids), class_="pair"))
