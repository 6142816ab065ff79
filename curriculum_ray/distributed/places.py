"""Where the controller of each slot runs: on the node that has room for its workers, and not on the driver's.

A slot that has no room yet waits here, which costs no process. Room is found by a placement group, which is given back
at once: Ray Train reserves its own. While a slot waits, its claim makes runs with a range of workers give room up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curriculum_ray.distributed.claims import SlotClaim
from curriculum_ray.distributed.resources import ResourceSpec

__all__ = ["WorkerPlaces"]

_AT_ONCE = 8
"""Slots that start at a time: another may take the room that one has found, whose controller then waits for more."""
_POLL_S = 1.0
_WATCH_S = 5.0


class _Turn:
    """A place among those that start; given back once, by whoever is first."""

    def __init__(self, turns: threading.Semaphore) -> None:
        self._turns, self._lock = turns, threading.Lock()
        self.over = False

    def give_back(self) -> None:
        with self._lock:
            if not self.over:
                self.over = True
                self._turns.release()


class WorkerPlaces:
    """Places for the fewest workers of slots with these resources; `closing` ends every wait."""

    def __init__(self, board: Any, resources: ResourceSpec, closing: threading.Event) -> None:
        self._board, self._resources, self._closing = board, resources, closing
        least, most = resources.workers
        self._range = least < most
        self._turns = threading.Semaphore(_AT_ONCE)

    @contextmanager
    def place(self, slot: int) -> Iterator[str | None]:
        """The id of the node for the slot's controller, None for the driver's; waits for room, unless it is closing.

        The body starts the slot's workers, and waits for their end.
        """
        cluster = bool(os.environ.get("RAY_ADDRESS"))
        claim = SlotClaim(self._board, slot, self._resources) if cluster or self._range else None
        if claim is not None:
            claim.renew()
        try:
            if claim is None or not cluster:
                yield None
                return
            with self._place(slot, claim) as node:
                yield node
        finally:
            if claim is not None:
                claim.withdraw()

    @contextmanager
    def _place(self, slot: int, claim: SlotClaim) -> Iterator[str | None]:
        while not self._turns.acquire(timeout=_POLL_S):
            if self._closing.is_set():
                yield None
                return
            claim.renew()
        turn = _Turn(self._turns)
        try:
            node = self._with_room(claim)
            if not self._range:
                # Its controller asks Ray for the same.
                claim.withdraw()
            threading.Thread(target=self._watch, args=(slot, turn), daemon=True).start()
            yield node
        finally:
            turn.give_back()

    def _with_room(self, claim: SlotClaim) -> str | None:
        import ray
        from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

        asked = placement_group(self._resources.bundles, strategy="PACK")
        try:
            while not asked.wait(_POLL_S):
                if self._closing.is_set():
                    return None
                claim.renew()
            node = str(placement_group_table(asked)["bundles_to_node_id"][0])
        finally:
            remove_placement_group(asked)
        return None if node == ray.get_runtime_context().get_node_id() else node

    def _watch(self, slot: int, turn: _Turn) -> None:
        """Let the next slot start when this one's workers have their room."""
        import ray

        while not turn.over:
            try:
                if ray.get(self._board.has_room.remote(slot, _WATCH_S)):
                    turn.give_back()
            except Exception:  # the board, or Ray, has gone
                return
