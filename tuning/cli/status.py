"""`python -m tune status`: a study from another terminal, while it runs and afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuning.cli.options import example, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import NameOption

if TYPE_CHECKING:
    from tuning.folder.status import RunningTrial, StudyStatus

__all__ = ["status"]


@click.command(
    short_help="Show how far a study is.",
    epilog=example("python -m tune status\npython -m tune status --name my-study --watch"),
)
@shared("output_or_bucket")
@click.option("--name", type=NameOption(), help="The study; by default the one that wrote last.")
@click.option("--watch", is_flag=True, help="Show it again every second until the study ends.")
@shared("json")
def status(output: Path | str, name: str | None, watch: bool, as_json: bool) -> int:
    """Show how far a study is: trials by state, the running ones' stages, the best so far, and the time left.

    Reads the file that the study's driver replaces every second, and uploads every 15 seconds where the results are in
    object storage; says so when that driver is dead.
    """
    read = _reader(output, name)
    while True:
        found = read()
        if as_json:
            click.echo(json_text(found.to_json(), indent=None if watch else 1))
        else:
            if watch:
                click.clear()
            click.echo("\n".join(_lines(found)))
        if not watch or found.state != "running":
            return 0
        time.sleep(1.0)


def _reader(output: Path | str, name: str | None) -> Callable[[], StudyStatus]:
    """What reads the status of the study in a folder or bucket."""
    if isinstance(output, Path):
        from tuning.folder.status import find_status, read_status
        from tuning.tracking.leftovers import store_leftovers

        store_leftovers(output, None, lambda line: click.echo(line, err=True))
        return partial(read_status, find_status(output, name))
    from curriculum_ray.buckets.store import Bucket
    from tuning.folder.stored_status import find_stored_status, read_stored_status

    return partial(read_stored_status, find_stored_status(Bucket(output), name))


def _lines(status: StudyStatus) -> list[str]:
    from tuning.evidence.metrics import count, metric_name, number
    from tuning.terminal.drawing import clock_text

    progress = status.progress
    driver = f"process {status.driver.pid} on {status.driver.host}"
    states = {
        "running": f"running ({driver})",
        "killed": "interrupted; the same search command resumes it",
        "failed": "failed; the same search command resumes it",
        "dead": f"its driver ({driver}) died {clock_text(status.silent_s)} ago; the same search command resumes it",
    }
    lines = [f"{status.study}: {states.get(status.state, status.state)}"]
    ended = progress.ended
    runs, interrupted = status.state == "running", len(progress.interrupted)
    parts = [f"{ended.finished} of {progress.total} trials done"]
    parts += [f"{len(progress.running)} running"] if runs else []
    others = ((interrupted, "interrupted"), (ended.pruned, "pruned"), (ended.failed, "failed"))
    parts += [f"{n} {state}" for n, state in others if n]
    if runs:
        left = progress.seconds_left
        parts.append("time left unknown yet" if left is None else f"{clock_text(left)} left")
    lines.append(", ".join(parts))
    if progress.room:
        lines.append(progress.room)
    name = metric_name(progress.metric)
    for title, best in (("best so far", progress.best), ("uniform", progress.uniform)):
        if best is not None:
            lines.append(f"{title:12} {name} {number(best.value)}  {best.name}")
    lines += [f"{'front' if not place else '':12} {words}" for place, words in enumerate(progress.front)]
    for trial in (*progress.running, *progress.interrupted):
        begun = trial.images is not None
        stage = f"stage {trial.stage + 1}/{trial.num_stages}" if begun else "starting" if runs else "–"
        seen = f"{count(trial.images or 0)}/{count(trial.total)} images"
        state = f"loss {number(trial.loss)}" if runs else f"interrupted, {_resumes(trial)}"
        lines.append(f"trial {trial.trial:<6} {stage:12} {seen}  {state}  {trial.name}")
    return lines


def _resumes(trial: RunningTrial) -> str:
    """Where an interrupted trial goes on."""
    from tuning.evidence.metrics import count

    if trial.resumes_at is None:
        return "goes on from its newest checkpoint"
    return f"goes on at {count(trial.resumes_at)} images" if trial.resumes_at else "starts again"
