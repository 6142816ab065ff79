"""The board: one Ray actor that hands jobs to slots and shows everybody the live state of each run.

It is the shared, visible home of the schedule states: rank 0 of each run tells it (fire and forget) what the
ranks have agreed on, and displays, `python -m tune status` and the trials of a search read it. Nothing that it
does is on a training step's critical path.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NAMESPACE", "Board", "create_board"]

NAMESPACE = "curriculum-ray"
_UNREAD = 1000
_ENDED = ("finished", "failed", "stopped")


@dataclass
class _Entry:
    job: dict[str, Any]
    state: str = "queued"
    attempts: int = 0
    deaths: int = 0
    """How often its workers died since it last got further than ever before, the death after that included."""
    furthest: int = 0
    """The most images that it had reported when its workers died."""
    cancelled: bool = False
    reason: str | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    events: deque[dict[str, Any]] = field(default_factory=deque)
    """What nobody has read yet; what was read is dropped."""
    dropped: int = 0
    """How many events came before the first of `events`."""

    @property
    def count(self) -> int:
        """How many events there have been."""
        return self.dropped + len(self.events)


@dataclass
class _Slot:
    generation: int
    served: list[str] = field(default_factory=list)
    current: str | None = None


class Board:
    """Jobs by key, first in, first out. A job is {"key": str, ...}; the rest is between submitter and worker.

    A job that was taken but not ended is served again when its slot's workers restart: without end while it gets
    further each time, as on machines that a cloud takes away, else up to `max_attempts` times.
    """

    def __init__(
        self, max_attempts: int = 3, judge: Callable[[str, dict[str, Any]], str | None] | None = None
    ) -> None:
        """judge: told of every report (key, progress); what it returns is why the run is to stop, None to go on."""
        self.max_attempts, self._judge = max_attempts, judge
        self._entries: dict[str, _Entry] = {}
        self._queue: deque[str] = deque()
        self._slots: dict[int, _Slot] = {}
        self._changed = asyncio.Condition()
        self._closed = False

    async def submit(self, job: dict[str, Any]) -> None:
        """Queue a job under its key; a key already queued or running is left as it is."""
        async with self._changed:
            key = job["key"]
            if key in self._entries and self._entries[key].state not in _ENDED:
                return
            self._entries[key] = _Entry(job=job)
            self._queue.append(key)
            self._changed.notify_all()

    async def take(self, slot: int, generation: int, index: int) -> dict[str, Any] | None:
        """The `index`-th job of this generation of the slot's workers, the same for all its ranks.

        Waits for a job; None when the board is closed. A new generation means that the workers were restarted.
        """
        async with self._changed:
            place = self._slots.get(slot)
            if place is None or place.generation != generation:
                interrupted = place.current if place else None
                place = self._slots[slot] = _Slot(generation=generation)
                if interrupted is not None:
                    self._again(place, interrupted)
            while len(place.served) <= index:
                if self._closed or self._slots.get(slot) is not place:
                    return None
                if self._queue and place.current is None:
                    self._serve(place, self._queue.popleft())
                else:
                    await self._changed.wait()
            return {
                **self._entries[place.served[index]].job,
                "attempt": self._entries[place.served[index]].attempts,
            }

    async def more(self) -> bool:
        """Wait until a job is queued or the board is closed; returns whether it is still open."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._queue or self._closed)
            return not self._closed

    def _serve(self, place: _Slot, key: str) -> None:
        entry = self._entries[key]
        if entry.cancelled:
            self._end(key, {"kind": "stopped"})
            return
        entry.attempts += 1
        entry.state = "running"
        place.current = key
        place.served.append(key)
        self._event(key, {"kind": "started", "attempt": entry.attempts})

    def _again(self, place: _Slot, key: str) -> None:
        entry = self._entries[key]
        images = int(entry.progress.get("images", 0))
        entry.deaths = 1 if images > entry.furthest else entry.deaths + 1
        entry.furthest = max(images, entry.furthest)
        if entry.deaths >= self.max_attempts:
            reason = (
                f"its workers died {entry.deaths} times before it got further "
                "(killed, out of memory, or a crash in native code)"
            )
            self._end(key, {"kind": "failed", "reason": reason})
        else:
            self._serve(place, key)

    async def report(self, key: str, progress: dict[str, Any]) -> bool:
        """Take note of a run's progress; returns whether the run should stop."""
        async with self._changed:
            entry = self._entries.setdefault(key, _Entry(job={"key": key}, state="running"))
            entry.progress = progress
            self._event(key, {"kind": "progress", **progress})
            if self._judge is not None and (reason := self._judge(key, progress)) is not None:
                entry.cancelled, entry.reason = True, reason
            return entry.cancelled

    async def end(self, key: str, kind: str, **details: Any) -> None:
        """Note that a job ended; kind is "finished", "failed" or "stopped"."""
        assert kind in _ENDED, kind
        async with self._changed:
            if self._entries[key].state not in _ENDED:
                self._end(key, {"kind": kind, **details})

    def _end(self, key: str, event: dict[str, Any]) -> None:
        self._entries[key].state = event["kind"]
        # Of a stopped run it is the judge's, if that stopped it.
        if event["kind"] != "stopped":
            self._entries[key].reason = event.get("reason")
        for place in self._slots.values():
            if place.current == key:
                place.current = None
        self._event(key, event)

    def _event(self, key: str, event: dict[str, Any]) -> None:
        entry = self._entries[key]
        entry.events.append(event)
        if len(entry.events) > _UNREAD:
            # Nobody listens; the newest progress is what a late listener needs.
            entry.events.popleft()
            entry.dropped += 1
        self._changed.notify_all()

    async def events(self, key: str, after: int, timeout_s: float) -> list[dict[str, Any]]:
        """Events of a job beyond the first `after`, which are then forgotten; waits up to `timeout_s` seconds for one.

        One listener a job: it counts what it has read. Of more than 1,000 unread ones the oldest are dropped, and
        counted as read: they come back as {"kind": "dropped"}.
        """
        async with self._changed:
            entry = self._entries[key]
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: entry.count > after), timeout_s)
            except TimeoutError:
                return []
            while entry.events and entry.dropped < after:
                entry.events.popleft()
                entry.dropped += 1
            missed = max(0, entry.dropped - after)
            return [{"kind": "dropped"}] * missed + list(entry.events)

    async def cancel(self, key: str) -> None:
        """Ask a run to stop at its next log line; a queued one never starts."""
        async with self._changed:
            if key in self._entries:
                self._entries[key].cancelled = True
                self._changed.notify_all()

    async def stop_all(self, timeout_s: float) -> bool:
        """Ask every run to stop, and wait up to `timeout_s` seconds; returns whether all have ended."""
        async with self._changed:
            for entry in self._entries.values():
                entry.cancelled = True
            self._changed.notify_all()

            def ended() -> bool:
                return all(entry.state != "running" for entry in self._entries.values())

            try:
                await asyncio.wait_for(self._changed.wait_for(ended), timeout_s)
            except TimeoutError:
                return False
            return True

    async def fail_all(self, reason: str) -> None:
        """End every job that has not ended, e.g. because no slot is left to run it."""
        async with self._changed:
            for key, entry in self._entries.items():
                if entry.state not in _ENDED:
                    self._end(key, {"kind": "failed", "reason": reason})
            self._queue.clear()

    async def close(self) -> None:
        """Let every slot that waits for a job go home."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def status(self) -> dict[str, dict[str, Any]]:
        """State, attempts, last progress and, where it failed, the reason, of every job."""
        return {
            key: {"state": entry.state, "attempts": entry.attempts, "reason": entry.reason, **entry.progress}
            for key, entry in self._entries.items()
        }


def create_board(name: str | None = None, judge: Any = None) -> Any:
    """Start a board as an actor that needs no CPU; `name` makes it findable in the namespace `NAMESPACE`.

    judge: see `Board`; it travels pickled.

    It lives on the driver's node: the loss of any other node leaves it standing.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 1000, "scheduling_strategy": here}
    if name is not None:
        options.update(name=name, namespace=NAMESPACE)
    return ray.remote(Board).options(**options).remote(judge=judge)
