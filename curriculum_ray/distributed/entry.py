"""One job on a board: its state, the deaths of its workers, and its unread events."""

from __future__ import annotations

import asyncio
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
    """A job and its state."""

    job: Job
    state: JobState = "queued"
    attempts: int = 0
    """How often it was started."""
    deaths: int = 0
    """Deaths of its workers since it last got further than ever before, including the one right after that."""
    furthest: int = 0
    """The most images that it had reported when its workers died."""
    said: str | None = None
    """The first reason that its workers gave for their latest death."""
    resized: bool = False
    """Whether its latest workers were replaced by more or fewer."""
    alone: bool = False
    """Whether it must be trained alone, because the runs that it was packed with failed together."""
    cancelled: bool = False
    """Whether it was asked to stop."""
    reason: str | None = None
    """Why it failed, or was asked to stop."""
    progress: Progress | None = None
    """Its last report."""
    events: deque[Event] = field(default_factory=deque)
    """Unread events; those that were read are dropped."""
    dropped: int = 0
    """Number of events before the first of `events`."""
    _noted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each event; cleared by those who wait for one."""

    @property
    def count(self) -> int:
        """How many events there have been."""
        return self.dropped + len(self.events)

    @property
    def ended(self) -> bool:
        """Whether it finished, failed or was stopped."""
        return self.state not in ("queued", "running")

    @property
    def withdrawn(self) -> bool:
        """Whether it was stopped without a reason: it was cancelled, and not by the judge."""
        return self.state == "stopped" and self.reason is None

    @property
    def pack(self) -> str | None:
        """Equal for jobs that may be trained together; None for a job that is trained alone."""
        return None if self.alone else self.job.pack

    def note(self, event: Event) -> None:
        """Add an event; beyond 1,000 unread ones the oldest is dropped."""
        self.events.append(event)
        if len(self.events) > _UNREAD:
            # Nobody is listening; a late listener needs the newest progress.
            self.events.popleft()
            self.dropped += 1
        self._noted.set()

    async def news(self, after: int) -> None:
        """Wait until there are events beyond the first `after`."""
        while self.count <= after:
            self._noted.clear()
            await self._noted.wait()

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
        self.note(Started(attempt=self.attempts, resized=self.resized))

    def die(self, most: int) -> str | None:
        """Its workers died; returns why to give it up, after `most` deaths without getting further, else None."""
        images = 0 if self.progress is None else self.progress.images
        self.deaths = 1 if images > self.furthest else self.deaths + 1
        self.furthest = max(images, self.furthest)
        self.alone = self.alone or self.deaths >= 2
        if self.deaths < most:
            return None
        reason = f"its workers died {self.deaths} times without making further progress"
        if self.said:
            return f"{reason}; the last time they said {self.said}"
        return f"{reason} (killed, out of memory, or a crash in native code)"

    def end(self, event: End) -> None:
        """It ended."""
        self.state = _STATES[type(event)]
        # If the judge stopped the run, its reason is kept.
        if not isinstance(event, Stopped):
            self.reason = event.reason if isinstance(event, Failed) else None
        self.note(event)

    def status(self) -> JobStatus:
        """Its status, for readers of the board."""
        return JobStatus(state=self.state, attempts=self.attempts, reason=self.reason, progress=self.progress)
