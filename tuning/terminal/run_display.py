"""The live display of one run, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Event, Progress, Started
from tuning.terminal.text import make_console

__all__ = ["RunDisplay"]


class RunDisplay:
    """Progress of one run: a live line on a terminal, else a line per log entry; nothing when `quiet`."""

    def __init__(self, config: RunConfig, quiet: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = make_console(quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task(
            config.schedule.describe(), total=config.total_images, state="starting"
        )

    def __enter__(self) -> RunDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def problems(self, lines: Iterable[str]) -> None:
        """Print what MLflow did not store, on stderr, also where the output is JSON."""
        for line in lines:
            print(f"MLflow: {line}", file=sys.stderr, flush=True)

    def __call__(self, event: Event) -> None:
        """Show an event of the board."""
        if isinstance(event, Progress):
            state = (
                f"{event.images:,} images  stage {event.stage + 1}/{event.num_stages}  "
                f"loss {event.loss:.4f}  {event.images_per_second:,.0f} images/s"
            )
            self._bar.update(self._task, completed=event.images, state=state)
            if not self.console.is_terminal:
                self.note("  ".join([state, *event.readings.words()]))
        elif isinstance(event, Started) and event.attempt > 1:
            self.console.print(f"workers lost; resuming from the newest checkpoint, attempt {event.attempt}")
