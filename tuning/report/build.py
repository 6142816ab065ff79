"""`report.html`: the answer of a study, how certain it is, and how to reproduce it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.words import capitalized, number_of
from tuning.evidence.answer import answer, as_sentence
from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.differences import against_rival, against_uniform
from tuning.evidence.in_turn import answers_of
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.records import TrialRecord
from tuning.evidence.scale import means
from tuning.evidence.speed import speed_up
from tuning.evidence.table import columns
from tuning.evidence.winner import best_arm
from tuning.figures import levels, plots
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
from tuning.folder.layout import REPORT_FILE
from tuning.report.confirmation import confirmation
from tuning.report.convergence import convergence, label
from tuning.report.difficulty import difficulty, read_difficulty
from tuning.report.facts import StudyFacts
from tuning.report.heldout import gains_by_level
from tuning.report.parameters import searched_parameters
from tuning.report.reproduction import failures, protocol, reproduction
from tuning.report.schedules import small_multiples

__all__ = ["build_report"]


def build_report(records: Sequence[TrialRecord], study: StudyFacts, output: Path) -> Path:
    """Write report.html into the folder `output` and return its path.

    records: the trials that ended. OSError where the file cannot be written.
    """
    metric = study.config.metric
    ranking = Ranking.of(records, metric, study.config.margin)
    best = best_arm(ranking)
    shown = [arm for arm in (best, ranking.uniform) if arm is not None]
    runs = {arm.arm_id: read_run(arm.records[0]) for arm in (*shown, *ranking.confirmed)}
    differences = against_uniform(ranking)
    turns = answers_of(ranking, list(study.config.arms)).turns if study.config.arms else []
    parts = [
        tag("h1", " · ".join(part for part in (study.name, study.experiment) if part)),
        *_answer(ranking),
        paragraph(f"{capitalized(study.left_out)}.") if study.left_out else Html(),
        tiles(_numbers(ranking, best)),
        confirmation(ranking, differences, against_rival(ranking), turns),
        gains_by_level(ranking),
        _table(ranking, best),
        _trials(ranking),
        small_multiples(ranking),
        searched_parameters(study.searched, metric),
        _schedule(best, ranking.best_noun, runs),
        _others(ranking, best, runs),
        convergence(ranking, best),
        _losses(ranking, best, runs),
        _samples([*shown, *([ranking.rival] if ranking.rival else [])], runs, metric),
        failures(records),
        protocol(records),
        reproduction(study, ranking, output),
    ]
    path = output / REPORT_FILE
    replace_file(path, page(f"{study.name}: report", join(parts)))
    return path


def _answer(ranking: Ranking) -> list[Html]:
    """The answer to the first question stands out; the second, about rivals, follows."""
    first, *more = (as_sentence(part, ranking) for part in answer(ranking).split("; "))
    return [tag("p", first, class_="answer"), *(tag("p", part, class_="also") for part in more)]


def _numbers(ranking: Ranking, best: Arm | None) -> list[tuple[str, str]]:
    rival, metric, records = ranking.rival, ranking.metric, ranking.records
    name = metric_name(metric)
    result = []
    if best is not None:
        value, beside, seeds = side_by_side(best, ranking.uniform, metric)
        kind = f"mean of {number_of(seeds, 'fresh seed')}" if best.confirmed else "in the search"
        result.append((f"{name} of the best {ranking.best_noun}, {kind}", number(value)))
        result.append((f"{name} of uniform sampling, the same", number(beside)))
        if rival is not None:
            result.append((f"{name} of the best rival, {rival.name}", number(rival.confirmed_value(metric))))
        for found in speed_up(ranking):
            if found.key == best.arm_id and found.images is not None:
                interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
                words = f"as fast to uniform sampling's last preview{interval}"
                if found.missed:
                    words += f", on {found.seeds} of {found.seeds + found.missed} seeds: it did not get there on all"
                result.append((words, f"{found.ratio:.2f} ×"))
        result.append(("images seen in each run", count(max(record.images for record in best.records))))
    ends = Counter(record.status for record in records)
    result.append(
        (f"trials: {', '.join(f'{many} {status}' for status, many in ends.items())}", str(len(records)))
    )
    seconds = sum(record.slot_seconds for record in records)
    result.append(("minutes of training and evaluation, over all slots", f"{seconds / 60:.1f}"))
    return result


def _table(ranking: Ranking, best: Arm | None) -> Html:
    if not ranking.arms:
        return Html()
    shown = columns(ranking)
    place = None if best is None else ranking.arms.index(best)
    gain = f"improvement over uniform sampling on the same seeds{means(ranking.metric)}"
    note = f"Gain: {gain}. Stages: walked of those asked for."
    if any(arm.searched for arm in ranking.arms):
        note += " Schedules with fresh seeds come first: a score in the search flatters whatever the search chose."
    rows = [[each.text(arm) for each in shown] for arm in ranking.arms]
    headings = [", ".join(each.title) for each in shown]
    named = [[arm.name, arm.description] for arm in ranking.arms if arm.name != arm.description]
    return section(
        f"All {ranking.noun}s",
        paragraph(note, faint=True),
        table(headings, rows, place),
        details("what the short names stand for", table(["name", ranking.noun], named)) if named else Html(),
    )


def _trials(ranking: Ranking) -> Html:
    if not ranking.arms:
        return Html()
    alt = f"{metric_name(ranking.metric)} of each run by the direction of its order"
    return section("Every run", drawn(lambda theme: plots.trials(ranking, theme), alt))


def _schedule(best: Arm | None, noun: str, runs: Mapping[str, RunFiles]) -> Html:
    if best is None:
        return Html()
    run = runs[best.arm_id]
    text = write_yaml(best.records[0].schedule, width=100)
    caption = "Which noise levels are drawn as training goes on; orange ticks mark the start of a stage."
    return section(
        f"The best {noun}",
        paragraph(_in_words(best)),
        drawn(lambda theme: levels.schedule(run, theme), "density of noise levels over images seen", caption),
        difficulty(read_difficulty(best.records[0])),
        details(SCHEDULE_FILE, tag("pre", text)),
    )


def _in_words(arm: Arm) -> str:
    """An arm by its name and in words."""
    return arm.name if arm.name == arm.description else f"{arm.name}: {arm.description}"


def _others(ranking: Ranking, best: Arm | None, runs: Mapping[str, RunFiles]) -> Html:
    """Draw the other arms with fresh seeds, each by its first run."""
    parts: list[Html] = []
    for arm in ranking.confirmed:
        if arm is not best:
            run = runs[arm.arm_id]
            alt = f"density of noise levels over images seen: {arm.name}"
            if plot := drawn(partial(levels.schedule, run), alt):
                parts += [paragraph(_in_words(arm)), plot]
    return section("What else was confirmed", *parts)


def _losses(ranking: Ranking, best: Arm | None, runs: Mapping[str, RunFiles]) -> Html:
    chosen = [arm for arm in ranking.arms if arm is best or arm.control is not None]
    labelled = [
        (
            label(arm, best, ranking.best_noun),
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
