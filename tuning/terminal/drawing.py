"""Draws the progress of a study or of one run for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.short_names import UNIFORM
from tuning.folder.status import RunningTrial, StudyProgress
from tuning.terminal.text import Words, cut

__all__ = ["Picture", "bar_line", "clock_text", "draw", "legend"]

_LEAST_BAR, _MOST_BAR = 8, 40
# Narrower than this, a trial's speed, stage and time left are left out: the first line has those of the study.
_ROOMY = 72


def draw(progress: StudyProgress) -> RenderableType:
    """Draw trials done, speed, the time left, the best so far beside uniform sampling, and a line per running trial.

    The legend below says what the short names stand for.
    """
    return Picture(progress)


class Picture:
    """The progress of a study, laid out for the width that it gets."""

    def __init__(self, progress: StudyProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        progress, width = self._progress, options.max_width
        yield from _head(progress, width)
        if progress.best is not None or progress.uniform is not None:
            yield _best_so_far(progress)
        if progress.running:
            yield _trials(progress.running, width)
        best = [] if progress.best is None else [progress.best]
        named = {each.arm: each.description for each in progress.running if each.arm}
        named |= {each.arm: each.description for each in best if each.arm}
        yield legend(named)


def legend(descriptions: dict[str, str]) -> RenderableType:
    """What short names stand for, one a line; nothing of those that say it themselves."""
    told = {name: words for name, words in descriptions.items() if words and name not in (words, UNIFORM)}
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, words in told.items():
        grid.add_row(Text(name, "dim"), Text(words, "dim"))
    return grid if told else Group()


def _head(progress: StudyProgress, width: int) -> list[RenderableType]:
    ended, seconds, speed = progress.ended, progress.seconds_left, progress.images_per_second
    interrupted = len(progress.interrupted)
    states = [f"{interrupted} interrupted" if interrupted else f"{len(progress.running)} running"]
    others = ((progress.waiting, "waiting"), (ended.pruned, "pruned"), (ended.failed, "failed"))
    states += [f"{n} {state}" for n, state in others if n]
    done = Text(f"{ended.finished}/{progress.total} trials done", "bold")
    seen = Text(f"{count(progress.images)}/{count(progress.total_images)} images")
    unknown = "stopped" if interrupted else "estimating"
    left = Text(unknown if seconds is None else f"{clock_text(seconds)} left", "cyan")
    rate = [] if speed is None else [Text(f"{count(speed)}/s")]
    always, more, none = [done], [Text(", ".join(states))], list[Text]()
    share = progress.images, progress.total_images
    for line, below in (
        ([seen, *rate, left, *more], none),
        ([seen, *rate, left], more),
        ([left], [seen, *rate, *more]),
    ):
        if (bar := bar_line(share, always, line, width)) is not None:
            return [bar, *([Words("  ".join(each.plain for each in below))] if below else [])]
    return [Words(f"{done.plain}  {left.plain}")]


def bar_line(
    share: tuple[int, int], before: Sequence[Text], after: Sequence[Text], width: int
) -> RenderableType | None:
    """A bar, as long as `width` allows, between texts; None where there is no room for one.

    share: images seen, of how many.
    """
    texts = [*before, *after]
    room = width - sum(text.cell_len + 1 for text in texts)
    if room < _LEAST_BAR:
        return None
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for _ in range(len(texts) + 1):
        grid.add_column(no_wrap=True)
    grid.add_row(*before, ProgressBar(max(share[1], 1), share[0], width=min(room, _MOST_BAR)), *after)
    return grid


def _best_so_far(progress: StudyProgress) -> RenderableType:
    """The search's best schedule and uniform sampling, whichever are known."""
    parts = []
    if progress.uniform is not None:
        parts.append(f"uniform {number(progress.uniform.value)}")
    if progress.best is not None:
        parts.append(f"best {number(progress.best.value)} {progress.best.name}")
    return Words(f"{metric_name(progress.metric)} so far: {' · '.join(parts)}", "bold green")


def _trials(trials: Sequence[RunningTrial], width: int) -> RenderableType:
    roomy = width >= _ROOMY
    columns = [("trial", 5), ("stage", 5 if roomy else 0), ("images", 9), ("loss", 6)]
    columns += [("img/s", 5), ("left", 7)] if roomy else []
    columns = [(heading, wide) for heading, wide in columns if wide]
    room = width - sum(wide + 1 for _, wide in columns) - 1
    names = max(len("schedule"), *(len(trial.name) for trial in trials))
    name = max(1, min(names, room - _LEAST_BAR))
    bar = max(1, min(_MOST_BAR, room - name))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("trial", justify="right", no_wrap=True, width=5)
    table.add_column("schedule", no_wrap=True, width=name)
    table.add_column("", no_wrap=True, width=bar)
    for heading, wide in columns[1:]:
        table.add_column(heading, justify="right", no_wrap=True, width=wide)
    for trial in trials:
        seen, speed, seconds = trial.images or 0, trial.images_per_second, trial.seconds_left
        texts = {
            "stage": "–" if trial.images is None else f"{trial.stage + 1}/{trial.num_stages}",
            "images": f"{count(seen)}/{count(trial.total)}",
            "loss": number(trial.loss),
            "img/s": "–" if speed is None else count(speed),
            "left": "–" if seconds is None else clock_text(seconds),
        }
        table.add_row(
            str(trial.trial),
            cut(trial.name, name),
            ProgressBar(trial.total, seen, width=bar),
            *(texts[heading] for heading, _ in columns[1:]),
        )
    return table


def clock_text(seconds: float) -> str:
    """Write a time: 4:05, or 1:02:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
