"""The end of a study as a person and as a program reads it: table, answer, report, next commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from tuning.evidence import answer as evidence
from tuning.evidence.arms import Ranking
from tuning.evidence.compared import Turn
from tuning.evidence.differences import against_rival, against_uniform, answers_asked, settled
from tuning.evidence.front import front
from tuning.evidence.in_turn import answers_of
from tuning.evidence.speed import speed_up
from tuning.evidence.winner import best_arm
from tuning.report.commands import best_command, train_command
from tuning.search.launch import Outcome
from tuning.study.best_curricula import asked_about
from tuning.study.config import StudyConfig
from tuning.terminal.failures import where_to_look
from tuning.terminal.tables import final_table

__all__ = ["answer", "as_object", "show"]

_NAMED = 3
"""Undecided comparisons that are named, at most."""


def answer(config: StudyConfig, outcome: Outcome) -> str:
    """Whether a schedule beat uniform sampling on fresh seeds, in one sentence; why not, where nothing finished."""
    if not outcome.finished:
        reasons = {record.reason or "stopped" for record in outcome.records}
        failed = (record.folder for record in outcome.records if record.status == "failed" and record.folder)
        where = next(filter(None, map(where_to_look, failed)), "")
        return f"no trial finished: {'; '.join(sorted(reasons))}{where}"
    ranking = Ranking.of(outcome.records, config.metric, config.margin)
    best = best_arm(ranking)
    fastest = next((found for found in speed_up(ranking) if best and found.key == best.arm_id), None)
    words = (
        "" if fastest is None else f"; the best {ranking.best_noun}, {fastest.name}, is {fastest.in_words()}"
    )
    return evidence.answer(ranking) + words


def show(
    config: StudyConfig,
    outcome: Outcome,
    console: Console,
    where: Sequence[str] = (),
    trusted: bool = False,
) -> None:
    """Print the table, the answer, the report's path and the commands that come next.

    where: the words that name the output and the store, for commands to find what this one left. trusted: whether
    code that a file names may be imported.
    """
    ranking = Ranking.of(outcome.records, config.metric, config.margin)
    console.print(final_table(outcome.records, config.metric))
    console.print()
    console.print(Text(answer(config, outcome), "bold"))
    if config.two_objectives:
        console.print("\nthe Pareto front: no other schedule is better in both objectives:")
        for each in front(ranking):
            console.print(Text(f"  {each.in_words(config.metric)}"))
    if turns := _turns(config, ranking):
        console.print(Text(f"\n{turns[0].name} against the other arms in turn, as long as it wins:"))
        for turn in turns:
            console.print(Text(f"  {turn.against}: {turn.in_words(config.margin)}"))
    if outcome.left_out is not None:
        console.print(Text(f"\n{outcome.left_out}", "yellow"))
    for problem in outcome.problems:
        console.print(Text(f"MLflow: {problem}", "yellow"))
    console.print()
    open_, chosen = ranking.confirmed and not _settled(config, ranking), ranking.best is not None
    lines = [
        *([("undecided", more_seeds(config, ranking))] if open_ else []),
        ("report", outcome.shown(outcome.report)),
        *([("its schedule", best_command(config, outcome.name, outcome.protocol, where))] if chosen else []),
        *([("train with it", train_command(config, where, trusted))] if chosen else []),
        ("all runs", outcome.ui_command),
    ]
    for name, value in lines:
        console.print(Text(f"{name:14} {value}"), soft_wrap=True)


def _settled(config: StudyConfig, ranking: Ranking) -> bool:
    names = list(config.arms)
    return answers_of(ranking, names).settled if names else settled(ranking, asked_about(config, ranking))


def _turns(config: StudyConfig, ranking: Ranking) -> list[Turn]:
    """The comparisons of named arms with each other; none before the first of them can be made."""
    turns = answers_of(ranking, list(config.arms)).turns if config.arms else []
    return turns if any(turn.compared for turn in turns) else []


def more_seeds(config: StudyConfig, ranking: Ranking) -> str:
    """Which answers of a study do not stand yet, and how to go on with it."""
    if config.arms:
        found = answers_of(ranking, list(config.arms)).undecided
    else:
        asked = answers_asked(ranking, asked_about(config, ranking))
        found = [f"{each.name} against {each.against}" for each in asked if each.verdict == "undecided"]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    what = f"{', '.join(found[:_NAMED])}{more}: " if found else ""
    least, most = config.least_and_most_seeds
    again = f"--confirm-seeds {least}-{min(2 * most, 1000)}"
    return f"{what}the same command with {again} adds seeds, which needs no correction"


def as_object(config: StudyConfig, outcome: Outcome) -> dict[str, Any]:
    """The study as one JSON object."""
    ranking = Ranking.of(outcome.records, config.metric, config.margin)
    return {
        "study": outcome.name,
        "experiment": outcome.experiment,
        "folder": outcome.shown(outcome.folder),
        "report": outcome.shown(outcome.report),
        "metric": config.metric,
        "answer": answer(config, outcome),
        "against_uniform": [found.to_json() for found in against_uniform(ranking)],
        "against_rival": [found.to_json() for found in against_rival(ranking)],
        "in_turn": [turn.model_dump(mode="json") for turn in _turns(config, ranking)],
        "front": [asdict(found) for found in front(ranking)],
        "speed_up": [asdict(found) for found in speed_up(ranking)],
        "trials": [record.to_json() for record in outcome.records],
        "left_out": outcome.left_out,
        "problems": outcome.problems,
    }
