"""The live display of a search, and plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.evidence.arms import Ranking
from tuning.evidence.front import front
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.records import Status, TrialRecord
from tuning.terminal.text import make_console

__all__ = ["Display", "clock_text"]

# A rate over less than this says nothing about the rest.
_LEAST_SECONDS = 5.0


@dataclass
class _Running:
    """What is known of a trial that is running."""

    name: str
    total: int
    images: int | None = None
    stage: int = 0
    num_stages: int = 1
    loss: float | None = None


class Display:
    """Shows how a search gets on; use it as a context manager around the search.

    In a terminal: trials done, running, stopped and failed, the best so far beside uniform sampling, the time
    left, and a line per running trial. Elsewhere: one plain line per event.
    """

    def __init__(
        self,
        total_trials: int,
        images_per_trial: int,
        console: Console | None = None,
        metric: str = "fid",
    ) -> None:
        self.total_trials, self.images_per_trial, self.metric = total_trials, images_per_trial, metric
        self._console = console or make_console()
        self._lives = self._console.is_terminal and not self._console.is_dumb_terminal
        self._lock = RLock()
        self._running: dict[int, _Running] = {}
        self._ended: dict[Status, int] = {"finished": 0, "pruned": 0, "failed": 0}
        self._records: list[TrialRecord] = []
        self._ranking = Ranking.of((), metric)
        self._images_ended = 0
        self._images_here = 0  # seen since this process began, which the rate is made of
        self._clock: float | None = None
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Display:
        if self._lives:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lives:
            self._live.stop()

    def earlier(self, records: Iterable[TrialRecord]) -> None:
        """Count trials that ended before this process began."""
        with self._lock:
            for record in records:
                self._count(record)

    def started(self, record: TrialRecord) -> None:
        """A trial begins, or goes on after an interruption."""
        with self._lock:
            self._running[record.trial] = _Running(record.name, record.total_images)
        self._event(f"trial {record.trial} started: {record.name}")

    def update(self, trial: int, images: int, stage: int, num_stages: int, loss: float) -> None:
        """A running trial reports; `stage` 0 is the first."""
        with self._lock:
            running = self._running.setdefault(trial, _Running(f"trial {trial}", self.images_per_trial))
            before, changed = running.images, running.images is not None and stage != running.stage
            running.images, running.stage, running.num_stages, running.loss = images, stage, num_stages, loss
            if self._clock is None:
                self._clock = time.monotonic()
            elif before is not None:
                self._images_here += max(0, images - before)
        if changed:
            seen = f"{count(images)} of {count(running.total)} images"
            self._event(f"trial {trial} stage {stage + 1}/{num_stages} at {seen}, loss {number(loss)}")

    def finished(self, record: TrialRecord) -> None:
        """A trial ended with status finished or pruned."""
        with self._lock:
            self._running.pop(record.trial, None)
            self._count(record)
        values = [f"{metric_name(key)} {number(value)}" for key, value in record.metrics.items()]
        seen = f"{count(record.images)} images, {record.seconds or 0:.0f} s"
        what = ", ".join(values) if record.status == "finished" else record.reason or record.status
        self._line(f"trial {record.trial} {self._tally()}: {what} · {record.name} · {seen}")

    def failed(self, record: TrialRecord) -> None:
        """A trial ended without a result."""
        with self._lock:
            self._running.pop(record.trial, None)
            self._count(record)
        reason = " ".join((record.reason or "").split())
        self._line(f"trial {record.trial} {self._tally()}: failed · {reason} · {record.name}", "red")

    def note(self, text: str) -> None:
        """Say something else."""
        self._line(text)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the images seen in this process; None while it is too early."""
        with self._lock:
            if self._clock is None or not self._images_here:
                return None
            elapsed = time.monotonic() - self._clock
            if elapsed < _LEAST_SECONDS:
                return None
            return (self._images_total() - self._images_seen()) * elapsed / self._images_here

    def snapshot(self) -> dict[str, Any]:
        """All that is shown, as plain data."""
        with self._lock:
            return {
                "metric": self.metric,
                "total": self.total_trials,
                "ended": dict(self._ended),
                "images": self._images_seen(),
                "total_images": self._images_total(),
                "seconds_left": self.seconds_left,
                "best": self._brief(self._best),
                "uniform": self._brief(self._uniform),
                "front": [each.in_words(self.metric) for each in front(self._ranking)],
                "running": [
                    {"trial": trial, **asdict(running)} for trial, running in sorted(self._running.items())
                ],
            }

    @property
    def _best(self) -> TrialRecord | None:
        """The search's own best schedule: fresh seeds are not for choosing."""
        return next(iter(self._ranking.curricula), None)

    @property
    def _uniform(self) -> TrialRecord | None:
        uniform = self._ranking.uniform
        return uniform.searched[0] if uniform and uniform.searched else None

    def _brief(self, record: TrialRecord | None) -> dict[str, Any] | None:
        if record is None:
            return None
        return {
            "trial": record.trial,
            "key": record.key,
            "name": record.name,
            "seed": record.seed,
            "images": record.images,
            "value": record.metrics[self.metric],
        }

    def _count(self, record: TrialRecord) -> None:
        self._ended[record.status] += 1
        self._images_ended += self.images_per_trial
        self._records.append(record)
        self._ranking = Ranking.of(self._records, self.metric)

    def _images_total(self) -> int:
        return self.total_trials * self.images_per_trial

    def _images_seen(self) -> int:
        running = sum(trial.images or 0 for trial in self._running.values())
        return min(self._images_total(), self._images_ended + running)

    def _tally(self) -> str:
        return f"({sum(self._ended.values())}/{self.total_trials})"

    def _event(self, text: str) -> None:
        """Say what the live display shows anyway."""
        if not self._lives:
            self._line(text)

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    def _render(self) -> RenderableType:
        with self._lock:
            parts: list[RenderableType] = [self._head()]
            best = self._best_so_far()
            if best is not None:
                parts.append(best)
            if self._running:
                parts.append(self._trials())
            return Group(*parts)

    def _head(self) -> RenderableType:
        seconds = self.seconds_left
        left = "estimating" if seconds is None else f"{clock_text(seconds)} left"
        states = [f"{len(self._running)} running"]
        states += [
            f"{number} {state}" for state, number in self._ended.items() if number and state != "finished"
        ]
        grid = Table.grid(padding=(0, 1))
        for _ in range(4):
            grid.add_column(no_wrap=True)
        grid.add_row(
            Text(f"{self._ended['finished']}/{self.total_trials} trials done", "bold"),
            ProgressBar(self._images_total(), self._images_seen(), width=24),
            Text(", ".join(states)),
            Text(left, "cyan"),
        )
        return grid

    def _best_so_far(self) -> Text | None:
        """The search's best schedule and uniform sampling, whichever are known."""
        if self._best is None and self._uniform is None:
            return None
        name = metric_name(self.metric)
        text = Text("so far: ", no_wrap=True, overflow="ellipsis")
        if self._uniform is not None:
            text.append(f"uniform sampling {name} {number(self._uniform.metrics[self.metric])}")
        if self._best is not None:
            text.append(" · " if self._uniform else "").append("best ")
            text.append(f"{name} {number(self._best.metrics[self.metric])}", "bold green")
            text.append(f" {self._best.name}")
        return text

    def _trials(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for heading, width in (("trial", 5), ("stage", 7), ("images", 9), ("", 12), ("loss", 7)):
            table.add_column(heading, justify="right", no_wrap=True, min_width=width, max_width=width)
        table.add_column("name", no_wrap=True, overflow="ellipsis", ratio=1)
        for trial, running in sorted(self._running.items()):
            seen = running.images or 0
            table.add_row(
                str(trial),
                "–" if running.images is None else f"{running.stage + 1}/{running.num_stages}",
                f"{count(seen)}/{count(running.total)}",
                ProgressBar(running.total, seen, width=12),
                number(running.loss),
                Text(running.name),
            )
        return table


def clock_text(seconds: float) -> str:
    """Write a time: 4:05, or 1:02:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
