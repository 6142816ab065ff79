"""The live display of one run, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Event, Progress, Started
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.short_names import short_name
from tuning.terminal.drawing import bar_line, clock_text
from tuning.terminal.text import Words, make_console, print_line

__all__ = ["RunDisplay"]


class _Line:
    """The progress of a run in a line: what does not fit is left out, the stage first, then the schedule's name."""

    def __init__(self, schedule: str, total: int, report: Progress | None, score: str | None) -> None:
        self._schedule, self._total, self._report, self._score = schedule, total, report, score

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report, width = self._report, options.max_width
        name = Text(self._schedule, "bold")
        if report is None:
            yield bar_line((0, self._total), [name], [Text("starting")], width) or Words("starting")
            return
        speed = report.images_per_second
        left = (self._total - report.images) / speed if speed else None
        stage = Text(f"stage {report.stage + 1}/{report.num_stages}")
        always = [
            Text(f"{count(report.images)}/{count(self._total)}"),
            *([Text(self._score)] if self._score else []),
            Text(f"loss {number(report.loss)}"),
            Text(f"{count(speed)}/s"),
            Text("estimating" if left is None else f"{clock_text(left)} left", "cyan"),
        ]
        for before, after in (([name], [stage, *always]), ([name], always), ([], always)):
            if (line := bar_line((report.images, self._total), before, after, width)) is not None:
                yield line
                return
        yield Words(" ".join(text.plain for text in always))


class RunDisplay:
    """Progress of one run: a live line on a terminal, else a line per log entry; nothing when `quiet`."""

    def __init__(self, config: RunConfig, quiet: bool = False, console: Console | None = None) -> None:
        from rich.live import Live

        self.console = console or make_console(quiet=quiet)
        self._name, self._words = short_name(config.schedule), config.schedule.describe()
        self._total = config.total_images
        self._report: Progress | None = None
        self._score: str | None = None
        self._lives = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self._live = Live(console=self.console, get_renderable=self.line, refresh_per_second=4)

    def line(self) -> _Line:
        """The line at this moment."""
        return _Line(self._name, self._total, self._report, self._score)

    def __enter__(self) -> RunDisplay:
        if self._lives:
            self.note(f"schedule {self._name}: {self._words}")
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lives:
            self._live.stop()

    def note(self, line: str) -> None:
        """Print a line."""
        print_line(self.console, line)

    def problems(self, lines: Iterable[str]) -> None:
        """Print what MLflow did not store, on stderr, also where the output is JSON."""
        for line in lines:
            print(f"MLflow: {line}", file=sys.stderr, flush=True)

    def __call__(self, event: Event) -> None:
        """Show an event of the board."""
        if isinstance(event, Progress):
            self._report = event
            if event.preview is not None and event.preview.metrics:
                key, value = next(iter(event.preview.metrics.items()))
                self._score = f"{metric_name(key)} {number(value)}"
            if not self._lives:
                state = (
                    f"{event.images:,} images  stage {event.stage + 1}/{event.num_stages}  "
                    f"loss {event.loss:.4f}  {event.images_per_second:,.0f} images/s"
                )
                self.note("  ".join([state, *event.readings.words()]))
        elif isinstance(event, Started) and event.attempt > 1:
            why = "another number of workers" if event.resized else "workers lost"
            self.note(f"{why}; resuming from the newest checkpoint, attempt {event.attempt}")
