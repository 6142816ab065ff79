"""The board: one Ray actor that hands jobs to slots and shows the live state of every run.

It holds the schedule states of all runs: rank 0 of each waits here for jobs, and reports (fire and forget) what the
ranks have agreed on, and the driver's display and the trials of a search read it. It is never on the critical path of a
training step.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from curriculum_ray.distributed.entry import Entry
from curriculum_ray.distributed.nodes import on_node, this_node
from curriculum_ray.runs.jobs import End, Event, Failed, Job, JobStatus, Progress, Stopped

__all__ = ["NAMESPACE", "Board", "create_board"]

NAMESPACE = "curriculum-ray"
# How long a worker that could take more jobs at a time than are queued waits for others: a trial that ends makes room
# for the next within a fraction of this.
_LINGER_S = 1.0
# How long a call may wait for a job: the actor serves so many calls at a time, and the others, which may be what those
# wait for, come only when one of them has ended.
_WAIT_S = 10.0
_CALLS = 1_000


@dataclass
class _Slot:
    generation: int
    served: list[list[str]] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    """The jobs that it is training: those last served that have not ended."""
    retired: bool = False
    """Whether its workers exit instead of taking more."""
    resized: bool = False
    """Whether its workers are about to be replaced by more or fewer."""
    again: deque[str] = field(default_factory=deque)
    """Jobs that it had taken and will be served again, before any other."""


class Board:
    """Jobs by key, first in, first out.

    A job that was taken but has not ended is served again when its slot's workers restart: without limit while it gets
    further each time, as on machines that a cloud reclaims, else up to `max_attempts` times.

    Jobs with equal "pack" may be trained together. Those whose workers died for the second time before they got
    further, or that failed together, are served one by one from then on, so that only the faulty one fails.
    """

    def __init__(
        self, max_attempts: int = 3, judge: Callable[[str, Progress], str | None] | None = None
    ) -> None:
        """judge: called with every report (key, progress); returns why the run should stop, or None."""
        self.max_attempts, self._judge = max_attempts, judge
        self._entries: dict[str, Entry] = {}
        self._queue: deque[str] = deque()
        self._slots: dict[int, _Slot] = {}
        self._rooms: dict[int, Any] = {}
        self._taken: Counter[int] = Counter()
        self._lost: str | None = None
        # What slots and the driver wait for. Whoever reads a job's events waits at its entry: reports come often.
        self._changed = asyncio.Condition()
        self._closed = False

    async def submit(self, job: Job) -> None:
        """Queue a job under its key; a key that is there is left alone, unless its run was cancelled and has stopped.

        So a trial whose actor was lost may submit its job again, even one that has ended. A job fails at once where no
        slot is left to run it.
        """
        async with self._changed:
            key = job.key
            if key in self._entries and not self._entries[key].withdrawn:
                return
            self._entries[key] = Entry(job=job)
            if self._lost is not None:
                self._end(key, Failed(reason=self._lost))
                return
            self._queue.append(key)
            self._changed.notify_all()

    async def take(self, slot: int, generation: int, index: int, most: int = 1) -> list[Job] | None:
        """The `index`-th jobs of this generation of the slot's workers, the same for all its ranks: up to `most` of one
        "pack", else one.

        Waits some seconds for a job: empty where there is none by then. None when the board is closed or the slot's
        workers are retired. A new generation means that the workers were restarted.
        """
        async with self._changed:
            place = self._slots.get(slot)
            if place is None or place.generation != generation:
                before, place = place, _Slot(generation=generation)
                self._slots[slot] = place
                if before is not None:
                    self._again(place, before)
                    self._changed.notify_all()
            patience: float | None = None
            end = asyncio.get_running_loop().time() + _WAIT_S
            while len(place.served) <= index:
                if self._closed or place.retired or self._slots.get(slot) is not place:
                    return None
                keys = [] if place.current else self._next(place, most)
                now = asyncio.get_running_loop().time()
                if not keys:
                    if now >= end:
                        return []
                    patience = None
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), end - now)
                    continue
                patience = patience or now + _LINGER_S
                whole = len(keys) == most or place.again or self._entries[keys[0]].pack is None
                if whole or now >= patience:
                    self._serve(place, keys)
                    self._taken[slot] += 1
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), patience - now)
            return [self._entries[key].job for key in place.served[index]]

    async def retire(self, slot: int, generation: int) -> None:
        """Serve these workers of the slot no more jobs; their successors get the jobs that they have not ended."""
        async with self._changed:
            if self._slots[slot].generation == generation:
                self._slots[slot].retired = True
                self._changed.notify_all()

    async def note_resize(self, slot: int) -> None:
        """The slot's workers are about to be replaced by more or fewer: their jobs go on, and nothing has died."""
        async with self._changed:
            if (place := self._slots.get(slot)) is not None:
                place.resized = True

    async def wait_for_job(self, slot: int) -> bool | None:
        """Whether there is a job for the slot, for which it waits some seconds; None when the board is closed."""
        async with self._changed:
            place = self._slots.get(slot) or _Slot(generation=-1)
            found = self._changed.wait_for(lambda: self._queue or place.again or self._closed)
            try:
                await asyncio.wait_for(found, _WAIT_S)
            except TimeoutError:
                return False
            return None if self._closed else True

    async def note_room(self, slot: int, room: Any) -> None:
        """Keep the placement group of the slot's workers, which has been met."""
        async with self._changed:
            self._rooms[slot] = room
            self._changed.notify_all()

    async def leave_room(self, slot: int) -> Any:
        """The placement group of the slot's workers, which is forgotten; None where none was noted."""
        async with self._changed:
            return self._rooms.pop(slot, None)

    async def has_room(self, slot: int, timeout_s: float) -> bool:
        """Whether the slot's workers have their room; waits up to `timeout_s` seconds for it."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: slot in self._rooms), timeout_s)
            except TimeoutError:
                return False
            return True

    def _next(self, place: _Slot, most: int) -> list[str]:
        """The jobs that the slot would train next: the first, and up to `most` in all that may be packed with it."""
        while (queue := place.again or self._queue) and self._entries[queue[0]].cancelled:
            self._end(queue.popleft(), Stopped())
        if not queue:
            return []
        group = self._entries[queue[0]].pack
        if group is None:
            return [queue[0]]
        entries = {key: self._entries[key] for key in queue}
        fit = [key for key, entry in entries.items() if entry.pack == group and not entry.cancelled]
        return fit[:most]

    def _serve(self, place: _Slot, keys: list[str]) -> None:
        queue = place.again or self._queue
        for key in keys:
            queue.remove(key)
            self._entries[key].start()
        place.current = list(keys)
        place.served.append(keys)
        self._changed.notify_all()

    def _again(self, place: _Slot, before: _Slot) -> None:
        """Serve the slot again the jobs whose workers died, unless that has happened too often, or were replaced."""
        for key in list(before.current):
            entry = self._entries[key]
            entry.resized = before.resized
            reason = None if before.resized else entry.die(self.max_attempts)
            if reason is None:
                place.again.append(key)
            else:
                self._end(key, Failed(reason=reason))
        place.again.extend(before.again)

    async def record_death(self, key: str, reason: str) -> None:
        """Record why a job's workers are about to die; only the first reason counts: the loss of a peer comes later."""
        self._entries[key].said = self._entries[key].said or reason

    async def separate(self, keys: list[str]) -> None:
        """Serve each of these jobs, which one slot was training together, once more, alone."""
        async with self._changed:
            for place in self._slots.values():
                for key in [key for key in place.current if key in keys]:
                    self._entries[key].alone = True
                    place.current.remove(key)
                    place.again.append(key)
            self._changed.notify_all()

    async def report(self, key: str, progress: Progress) -> bool:
        """Record a run's progress; returns whether the run should stop."""
        entry = self._entries[key]
        entry.progress = progress
        entry.note(progress)
        if self._judge is not None and (reason := self._judge(key, progress)) is not None:
            entry.cancelled, entry.reason = True, reason
        return entry.cancelled

    async def end(self, key: str, event: End) -> None:
        """Record that a job ended; only the first end counts."""
        async with self._changed:
            if not self._entries[key].ended:
                self._end(key, event)

    def _end(self, key: str, event: End) -> None:
        for place in self._slots.values():
            for keys in (place.current, place.again):
                if key in keys:
                    keys.remove(key)
        self._entries[key].end(event)
        self._changed.notify_all()

    async def events(self, key: str, after: int, timeout_s: float) -> list[Event]:
        """Events of a job beyond the first `after`, which are then forgotten; waits up to `timeout_s` seconds for one.

        For one listener per job, which counts the events that it has read. Beyond 1,000 unread events, the oldest are
        dropped and counted as read: `Dropped` stands for them.
        """
        entry = self._entries[key]
        try:
            await asyncio.wait_for(entry.news(after), timeout_s)
        except TimeoutError:
            return []
        return entry.read(after)

    async def cancel(self, key: str) -> None:
        """Ask a run to stop at its next log line; a queued one never starts."""
        async with self._changed:
            if key in self._entries:
                self._entries[key].cancelled = True
                self._changed.notify_all()

    async def stop_all(self, timeout_s: float) -> list[Job]:
        """Ask every run to stop, and wait up to `timeout_s` seconds; returns the jobs that are still running."""
        async with self._changed:
            for entry in self._entries.values():
                entry.cancelled = True
            self._changed.notify_all()

            def running() -> list[Job]:
                return [entry.job for entry in self._entries.values() if entry.state == "running"]

            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: not running()), timeout_s)
            return running()

    async def taken(self, slots: list[int]) -> int:
        """How often these slots have taken jobs, those that they took again included."""
        return sum(self._taken[slot] for slot in slots)

    async def leave(self, slots: list[int]) -> None:
        """These slots have ended, and others have not: those get the jobs that these have not ended."""
        async with self._changed:
            for slot in slots:
                if (before := self._slots.pop(slot, None)) is not None:
                    place = _Slot(generation=-1)
                    self._again(place, before)
                    self._queue.extendleft(reversed(place.again))
            self._changed.notify_all()

    async def fail_all(self, reason: str) -> None:
        """End every job that has not ended, and every later one when it is submitted: no slot is left to run it."""
        async with self._changed:
            self._lost = reason
            for key, entry in self._entries.items():
                if not entry.ended:
                    self._end(key, Failed(reason=reason))
            self._queue.clear()

    async def close(self) -> None:
        """Let every slot that waits for a job exit."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def status(self) -> dict[str, JobStatus]:
        """The status of every job, by key."""
        return {key: entry.status() for key, entry in self._entries.items()}


def create_board(name: str | None = None, judge: Any = None) -> Any:
    """Start a board as an actor that needs no CPU; `name` makes it findable in the namespace `NAMESPACE`.

    judge: see `Board`; it travels pickled.

    It lives on the driver's node, so it survives the loss of any other node.
    """
    import ray

    here = on_node(this_node())
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": _CALLS, "scheduling_strategy": here}
    if name is not None:
        options.update(name=name, namespace=NAMESPACE)
    return ray.remote(Board).options(**options).remote(judge=judge)
