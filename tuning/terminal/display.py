"""Shows the progress of a search: a live display in a terminal, elsewhere a plain line for each event."""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import RLock

from rich.console import Console
from rich.live import Live

from tuning.evidence.arms import Ranking
from tuning.evidence.front import front
from tuning.evidence.metrics import count, metric_name, number
from tuning.evidence.records import Status, TrialRecord
from tuning.folder.status import EndedTrials, RunningTrial, ScoredTrial, StudyProgress
from tuning.terminal.drawing import draw
from tuning.terminal.failures import where_to_look
from tuning.terminal.text import make_console, print_line

__all__ = ["Display"]

# A rate over less than this says nothing about the rest.
_LEAST_SECONDS = 5.0


class Display:
    """Keeps and shows the progress of a search; use it as a context manager around the search.

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
        self.images_per_trial, self.metric = images_per_trial, metric
        self.expect(total_trials, total_trials * images_per_trial)
        self.room = ""
        self._console = console or make_console()
        self._lives = self._console.is_terminal and not self._console.is_dumb_terminal
        self._lock = RLock()
        self._stopped = False
        self._waiting: set[int] = set()
        self._running: dict[int, RunningTrial] = {}
        self._seen: dict[int, int] = {}  # images of each trial begun here, as of its last report
        self._first: dict[int, tuple[float, int]] = {}  # each trial's first report here: the clock, images
        self._ended: dict[Status, int] = {"finished": 0, "pruned": 0, "failed": 0}
        self._records: list[TrialRecord] = []
        self._best: ScoredTrial | None = None
        self._uniform: ScoredTrial | None = None
        self._front: tuple[str, ...] = ()
        self._images_ended = 0
        self._images_here = 0  # seen in this process: the numerator of the rate
        self._clock: float | None = None
        self._live = Live(
            console=self._console, get_renderable=lambda: draw(self.snapshot()), refresh_per_second=4
        )

    def __enter__(self) -> Display:
        if self._lives:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lives:
            self._live.stop()

    def expect(self, trials: int, images: int) -> None:
        """How many trials the study has in all, and their budgets together."""
        self.total_trials, self._total_images = trials, images

    def earlier(self, records: Iterable[TrialRecord]) -> None:
        """Count trials that ended before this process started."""
        with self._lock:
            for record in records:
                self._count(record)

    def queued(self, record: TrialRecord, seen: int = 0) -> None:
        """A trial waits for workers, which may be those of another trial until that has ended.

        seen: images that it had seen when an earlier start of the study was interrupted.
        """
        with self._lock:
            self._waiting.add(record.trial)
            self._seen[record.trial] = seen

    def started(self, record: TrialRecord) -> None:
        """Workers begin a trial, or take it up again after an interruption."""
        with self._lock:
            self._waiting.discard(record.trial)
            if record.trial in self._running:
                return
            self._start_clock()
            self._running[record.trial] = RunningTrial(
                trial=record.trial,
                key=record.key,
                name=record.name,
                arm=record.arm,
                description=record.describe(),
                total=record.total_images,
            )
        words = "" if record.describe() == record.arm else f" · {record.describe()}"
        self._event(f"trial {record.trial} started: {record.name}{words}")

    def update(self, trial: int, images: int, stage: int, num_stages: int, loss: float) -> None:
        """A running trial reports; `stage` 0 is the first."""
        with self._lock:
            unknown = RunningTrial(trial=trial, name=f"trial {trial}", total=self.images_per_trial)
            before = self._running.get(trial, unknown)
            now = self._start_clock()
            since, first = self._first.setdefault(trial, (now, images))
            speed = (images - first) / (now - since) if images > first and now > since else None
            reported = {"images": images, "stage": stage, "num_stages": num_stages, "loss": loss}
            self._running[trial] = before.model_copy(update={**reported, "images_per_second": speed})
            known = self._seen.get(trial, 0)
            # A trial of an earlier start may go on from before what it had logged. One whose workers were lost goes
            # back, and repeated images bring the study no further.
            self._images_here += images - (min(known, images) if before.images is None else known)
            self._seen[trial] = images
        if before.images is not None and stage != before.stage:
            seen = f"{count(images)} of {count(before.total)} images"
            self._event(f"trial {trial} stage {stage + 1}/{num_stages} at {seen}, loss {number(loss)}")

    def finished(self, record: TrialRecord) -> None:
        """A trial ended with status finished or pruned."""
        with self._lock:
            self._drop(record)
        values = [f"{metric_name(key)} {number(value)}" for key, value in record.metrics.items()]
        seen = f"{count(record.images)} images, {record.seconds or 0:.0f} s"
        what = ", ".join(values) if record.status == "finished" else record.reason or record.status
        self._line(f"trial {record.trial} {self._tally()}: {what} · {record.name} · {seen}")

    def failed(self, record: TrialRecord) -> None:
        """A trial ended without a result."""
        with self._lock:
            self._drop(record)
        reason = " ".join((record.reason or "").split())
        where = "" if record.folder is None else where_to_look(record.folder)
        self._line(f"trial {record.trial} {self._tally()}: failed · {reason} · {record.name}{where}", "red")

    def note(self, text: str) -> None:
        """Print any other line."""
        self._line(text)

    @property
    def images_per_second(self) -> float | None:
        """The speed of all trials together since this process started the first; None while it is too early."""
        with self._lock:
            if self._clock is None or self._images_here <= 0:
                return None
            elapsed = time.monotonic() - self._clock
            return None if elapsed < _LEAST_SECONDS else self._images_here / elapsed

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the images that this process has seen; None while it is too early."""
        with self._lock:
            speed = self.images_per_second
            return None if speed is None else (self._total_images - self._images_seen()) / speed

    def stopped(self) -> None:
        """The study stops before its end: the trials that run are interrupted."""
        with self._lock:
            self._stopped = True

    def snapshot(self) -> StudyProgress:
        """The progress at this moment."""
        with self._lock:
            progress = StudyProgress(
                metric=self.metric,
                total=self.total_trials,
                room=self.room,
                ended=EndedTrials(**self._ended),
                images=self._images_seen(),
                total_images=self._total_images,
                images_per_second=self.images_per_second,
                seconds_left=self.seconds_left,
                best=self._best,
                uniform=self._uniform,
                front=self._front,
                waiting=len(self._waiting),
                running=tuple(running for _, running in sorted(self._running.items())),
            )
            return progress.stopped() if self._stopped else progress

    def _start_clock(self) -> float:
        """The clock, which counts from the first call."""
        now = time.monotonic()
        self._clock = now if self._clock is None else self._clock
        return now

    def _score(self, record: TrialRecord) -> ScoredTrial:
        return ScoredTrial(
            trial=record.trial,
            key=record.key,
            name=record.name,
            arm=record.arm,
            description=record.describe(),
            seed=record.seed,
            images=record.images,
            value=record.metrics[self.metric],
        )

    def _drop(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._waiting.discard(record.trial)
        self._running.pop(record.trial, None)
        self._count(record)

    def _count(self, record: TrialRecord) -> None:
        self._ended[record.status] += 1
        self._images_ended += record.total_images
        self._records.append(record)
        ranking = Ranking.of(self._records, self.metric)
        uniform = ranking.uniform.searched if ranking.uniform else ()
        # Only trials of the search: fresh seeds are not for choosing.
        self._best = next(map(self._score, ranking.curricula), None)
        self._uniform = next(map(self._score, uniform), None)
        self._front = tuple(each.in_words(self.metric) for each in front(ranking))

    def _images_seen(self) -> int:
        begun = sum(self._seen.get(trial, 0) for trial in (*self._waiting, *self._running))
        return min(self._total_images, self._images_ended + begun)

    def _tally(self) -> str:
        return f"({sum(self._ended.values())}/{self.total_trials})"

    def _event(self, text: str) -> None:
        """Print an event that the live display shows anyway."""
        if not self._lives:
            self._line(text)

    def _line(self, text: str, style: str = "") -> None:
        print_line(self._console, text, style)
