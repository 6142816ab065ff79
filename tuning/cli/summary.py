"""The end of a study as a person and as a program reads it: table, answer, report, next commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.shell import tune_command
from tuning.evidence import answer as evidence
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import against_rival, against_uniform
from tuning.evidence.front import front
from tuning.evidence.speed import speed_up
from tuning.search.launch import Outcome
from tuning.study.config import StudyConfig
from tuning.terminal.tables import final_table

__all__ = ["answer", "as_object", "show"]


def answer(config: StudyConfig, outcome: Outcome) -> str:
    """Whether a schedule beat uniform sampling on fresh seeds, in one sentence; why not, where nothing finished."""
    if not any(record.status == "finished" for record in outcome.records):
        reasons = {record.reason or "stopped" for record in outcome.records}
        return f"no trial finished: {'; '.join(sorted(reasons))}"
    ranking = Ranking.of(outcome.records, config.metric)
    best = None if ranking.best is None else ranking.best.arm_id
    fastest = next((found for found in speed_up(ranking) if found.key == best), None)
    words = "" if fastest is None else f"; the best schedule is {fastest.in_words()}"
    return evidence.answer(ranking) + words


def show(config: StudyConfig, outcome: Outcome, output: Path, console: Console) -> None:
    """Print the table, the answer, the report's path and the commands that come next."""
    console.print(final_table(outcome.records, config.metric))
    console.print()
    console.print(Text(answer(config, outcome), "bold"))
    if config.two_aims:
        console.print("\nthe front, of which no schedule is beaten in both aims:")
        for each in front(Ranking.of(outcome.records, config.metric)):
            console.print(Text(f"  {each.in_words(config.metric)}"))
    for problem in outcome.problems:
        console.print(Text(f"MLflow: {problem}", "yellow"))
    console.print()
    for name, value in _next(outcome, output):
        console.print(Text(f"{name:14} {value}"), soft_wrap=True)


def _next(outcome: Outcome, output: Path) -> list[tuple[str, str]]:
    """Where everything lies, and the commands that come next; `best` finds nothing where no trial finished."""
    where = [] if output == Path("runs") else ["--output", output]
    found = [
        ("best schedule", tune_command("best", *where)),
        ("train with it", tune_command("train", *where, "--schedule", SCHEDULE_FILE, "--num-workers", 2)),
    ]
    finished = any(record.status == "finished" for record in outcome.records)
    return [("report", str(outcome.report)), *(found if finished else []), ("all runs", outcome.ui_command)]


def as_object(config: StudyConfig, outcome: Outcome) -> dict[str, Any]:
    """The study as one JSON object."""
    ranking = Ranking.of(outcome.records, config.metric)
    return {
        "study": outcome.name,
        "experiment": outcome.experiment,
        "folder": str(outcome.folder),
        "report": str(outcome.report),
        "metric": config.metric,
        "answer": answer(config, outcome),
        "against_uniform": [found.to_json() for found in against_uniform(ranking)],
        "against_rival": [found.to_json() for found in against_rival(ranking)],
        "front": [asdict(found) for found in front(ranking)],
        "speed_up": [asdict(found) for found in speed_up(ranking)],
        "trials": [record.to_json() for record in outcome.records],
        "problems": outcome.problems,
    }
