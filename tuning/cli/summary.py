"""The end of a study as a person and as a program reads it: table, answer, report, next commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from curriculum_ray.models.named_code import TRUST_OPTION, code_named
from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.shell import tune_command
from tuning.evidence import answer as evidence
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import against_rival, against_uniform, settled
from tuning.evidence.front import front
from tuning.evidence.in_turn import answers_of
from tuning.evidence.speed import speed_up
from tuning.folder.layout import SETTINGS_SUFFIX
from tuning.search.launch import Outcome
from tuning.study.config import StudyConfig
from tuning.terminal.failures import where_to_look
from tuning.terminal.tables import final_table

__all__ = ["answer", "as_object", "best_command", "show", "train_command"]


def answer(config: StudyConfig, outcome: Outcome) -> str:
    """Whether a schedule beat uniform sampling on fresh seeds, in one sentence; why not, where nothing finished."""
    if not any(record.status == "finished" for record in outcome.records):
        reasons = {record.reason or "stopped" for record in outcome.records}
        failed = (record.folder for record in outcome.records if record.status == "failed" and record.folder)
        where = next(filter(None, map(where_to_look, failed)), "")
        return f"no trial finished: {'; '.join(sorted(reasons))}{where}"
    ranking = Ranking.of(outcome.records, config.metric, config.margin)
    best = None if ranking.best is None else ranking.best.arm_id
    fastest = next((found for found in speed_up(ranking) if found.key == best), None)
    words = "" if fastest is None else f"; the best schedule is {fastest.in_words()}"
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
    console.print(final_table(outcome.records, config.metric))
    console.print()
    console.print(Text(answer(config, outcome), "bold"))
    if config.two_objectives:
        console.print("\nthe Pareto front: no other schedule is better in both objectives:")
        for each in front(Ranking.of(outcome.records, config.metric, config.margin)):
            console.print(Text(f"  {each.in_words(config.metric)}"))
    if outcome.left_out is not None:
        console.print(Text(f"\n{outcome.left_out}", "yellow"))
    for problem in outcome.problems:
        console.print(Text(f"MLflow: {problem}", "yellow"))
    console.print()
    ranking = Ranking.of(outcome.records, config.metric, config.margin)
    chosen = ranking.best is not None
    lines = [
        *([("undecided", more_seeds(config))] if ranking.confirmed and not _settled(config, ranking) else []),
        ("report", outcome.shown(outcome.report)),
        *([("its schedule", best_command(config, outcome, where))] if chosen else []),
        *([("train with it", train_command(config, where, trusted))] if chosen else []),
        ("all runs", outcome.ui_command),
    ]
    for name, value in lines:
        console.print(Text(f"{name:14} {value}"), soft_wrap=True)


def _settled(config: StudyConfig, ranking: Ranking) -> bool:
    names = list(config.arms)
    return answers_of(ranking, names).settled if names else settled(ranking)


def more_seeds(config: StudyConfig) -> str:
    """How to go on with a study some of whose answers do not stand yet."""
    least, most = config.least_and_most_seeds
    return f"the same command with --confirm-seeds {least}-{min(2 * most, 1000)} adds seeds, which needs no correction"


def best_command(config: StudyConfig, outcome: Outcome, where: Sequence[str]) -> str:
    """The command that asks for this study and no other, by the study's own metric."""
    words = ["--study", outcome.name, *where]
    if config.metric != "fid":
        words += ["--metric", config.metric]
    if outcome.protocol is not None:
        words += ["--fingerprint", outcome.protocol]
    return tune_command("best", *words)


def train_command(config: StudyConfig, where: Sequence[str], trusted: bool) -> str:
    """The command that trains with what `best` writes: the study's data and network, on what its trials got."""
    words: list[object] = ["--config", Path(SCHEDULE_FILE).with_suffix(SETTINGS_SUFFIX), *where]
    least, most = config.resources.workers
    if most > 1:
        words += ["--num-workers", least if least == most else f"{least}-{most}"]
    words += ["--use-gpu"] * config.resources.use_gpu + ["--isolate"] * config.resources.isolate
    if trusted or code_named(config.run.model_dump(mode="json")):
        words.append(TRUST_OPTION)
    return tune_command("train", *words)


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
        "front": [asdict(found) for found in front(ranking)],
        "speed_up": [asdict(found) for found in speed_up(ranking)],
        "trials": [record.to_json() for record in outcome.records],
        "left_out": outcome.left_out,
        "problems": outcome.problems,
    }
