"""Draws the progress of a study for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.evidence.metrics import count, metric_name, number
from tuning.folder.status import RunningTrial, StudyProgress

__all__ = ["clock_text", "draw"]


def draw(progress: StudyProgress) -> RenderableType:
    """Draw trials done, the time left, the best so far beside uniform sampling, and a line per running trial."""
    parts = [_head(progress)]
    if progress.best is not None or progress.uniform is not None:
        parts.append(_best_so_far(progress))
    if progress.running:
        parts.append(_trials(progress.running))
    return Group(*parts)


def _head(progress: StudyProgress) -> RenderableType:
    ended, seconds = progress.ended, progress.seconds_left
    states = [f"{len(progress.running)} running"]
    states += [f"{n} {state}" for n, state in ((ended.pruned, "pruned"), (ended.failed, "failed")) if n]
    grid = Table.grid(padding=(0, 1))
    for _ in range(4):
        grid.add_column(no_wrap=True)
    grid.add_row(
        Text(f"{ended.finished}/{progress.total} trials done", "bold"),
        ProgressBar(progress.total_images, progress.images, width=24),
        Text(", ".join(states)),
        Text("estimating" if seconds is None else f"{clock_text(seconds)} left", "cyan"),
    )
    return grid


def _best_so_far(progress: StudyProgress) -> RenderableType:
    """The search's best schedule and uniform sampling, whichever are known."""
    name = metric_name(progress.metric)
    text = Text("so far: ", no_wrap=True, overflow="ellipsis")
    if progress.uniform is not None:
        text.append(f"uniform sampling {name} {number(progress.uniform.value)}")
    if progress.best is not None:
        text.append(" · " if progress.uniform else "").append("best ")
        text.append(f"{name} {number(progress.best.value)}", "bold green")
        text.append(f" {progress.best.name}")
    return text


def _trials(trials: Iterable[RunningTrial]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for heading, width in (("trial", 5), ("stage", 7), ("images", 9), ("", 12), ("loss", 7)):
        table.add_column(heading, justify="right", no_wrap=True, min_width=width, max_width=width)
    table.add_column("name", no_wrap=True, overflow="ellipsis", ratio=1)
    for trial in trials:
        seen = trial.images or 0
        table.add_row(
            str(trial.trial),
            "–" if trial.images is None else f"{trial.stage + 1}/{trial.num_stages}",
            f"{count(seen)}/{count(trial.total)}",
            ProgressBar(trial.total, seen, width=12),
            number(trial.loss),
            Text(trial.name),
        )
    return table


def clock_text(seconds: float) -> str:
    """Write a time: 4:05, or 1:02:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
