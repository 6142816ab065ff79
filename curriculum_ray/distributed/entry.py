"""What a board knows of one job: its state, the deaths of its workers, and the news that nobody has read yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from curriculum_ray.runs.jobs import (
    Dropped,
    End,
    Event,
    Failed,
    Finished,
    Job,
    JobState,
    JobStatus,
    Progress,
    Started,
    Stopped,
)

__all__ = ["Entry"]

_STATES: dict[type[End], JobState] = {Finished: "finished", Failed: "failed", Stopped: "stopped"}
_UNREAD = 1000


@dataclass
class Entry:
    """A job and what became of it."""

    job: Job
    state: JobState = "queued"
    attempts: int = 0
    """How often it was started."""
    deaths: int = 0
    """How often its workers died since it last got further than ever before, the death after that included."""
    furthest: int = 0
    """The most images that it had reported when its workers died."""
    said: str | None = None
    """What its workers said when they died this time, the first of them."""
    alone: bool = False
    """Whether it is to be trained by itself, because the runs that it was packed with failed together."""
    cancelled: bool = False
    """Whether it was asked to stop."""
    reason: str | None = None
    """Why it failed, or was asked to stop."""
    progress: Progress | None = None
    """Its last report."""
    events: deque[Event] = field(default_factory=deque)
    """What nobody has read yet; what was read is dropped."""
    dropped: int = 0
    """How many events came before the first of `events`."""

    @property
    def count(self) -> int:
        """How many events there have been."""
        return self.dropped + len(self.events)

    @property
    def ended(self) -> bool:
        """Whether it finished, failed or was stopped."""
        return self.state not in ("queued", "running")

    @property
    def pack(self) -> str | None:
        """Equal for jobs that may be trained together; None where it is trained by itself."""
        return None if self.alone else self.job.pack

    def note(self, event: Event) -> None:
        """Add an event; of more than 1,000 unread ones the oldest is dropped."""
        self.events.append(event)
        if len(self.events) > _UNREAD:
            # Nobody listens; the newest progress is what a late listener needs.
            self.events.popleft()
            self.dropped += 1

    def read(self, after: int) -> list[Event]:
        """Events beyond the first `after`, which are then forgotten; lost ones come as `Dropped`."""
        while self.events and self.dropped < after:
            self.events.popleft()
            self.dropped += 1
        missed = max(0, self.dropped - after)
        return [Dropped()] * missed + list(self.events)

    def start(self) -> None:
        """A slot takes it."""
        self.attempts += 1
        self.state, self.said = "running", None
        self.note(Started(attempt=self.attempts))

    def die(self, most: int) -> str | None:
        """Its workers died; returns why it is given up, after `most` deaths without getting further, else None."""
        images = 0 if self.progress is None else self.progress.images
        self.deaths = 1 if images > self.furthest else self.deaths + 1
        self.furthest = max(images, self.furthest)
        self.alone = self.alone or self.deaths >= 2
        if self.deaths < most:
            return None
        reason = (
            f"its workers died {self.deaths} times before it got further "
            "(killed, out of memory, or a crash in native code)"
        )
        return f"{reason}; the last time they said {self.said}" if self.said else reason

    def end(self, event: End) -> None:
        """It ended."""
        self.state = _STATES[type(event)]
        # Of a stopped run the reason is the judge's, if that stopped it.
        if not isinstance(event, Stopped):
            self.reason = event.reason if isinstance(event, Failed) else None
        self.note(event)

    def status(self) -> JobStatus:
        """What is known of it."""
        return JobStatus(state=self.state, attempts=self.attempts, reason=self.reason, progress=self.progress)
