"""How often a write is tried that fails though the store answers: so that it holds up no others for long."""

from __future__ import annotations

import time

from tuning.tracking.spool import Write

__all__ = ["Failures"]

_TRIES = 3
# After so many writes of a kind were set aside in a row, the next is tried only after this time.
_MANY, _REST_SECONDS = 3, 60.0


class Failures:
    """The kinds of writes that fail, e.g. files where the artifact store alone is out of order."""

    def __init__(self) -> None:
        self._kinds: dict[
            str, tuple[int, float]
        ] = {}  # kind -> how many failed in a row, and when the last did
        self._unopened: set[str] = set()  # runs whose `begin` is set aside: nothing can be written to them

    def tries(self, write: Write) -> int:
        """How often this write may be tried: fewer times, down to none, the more of its kind have failed just now."""
        if write.kind != "begin" and write.run in self._unopened:
            return 0
        failed, when = self._kinds.get(write.kind, (0, 0.0))
        if failed >= _MANY and time.monotonic() < when + _REST_SECONDS:
            return 0
        return 1 if failed else _TRIES

    def set_aside(self, write: Write, tried: bool) -> bool:
        """Note that it waits for the next process; return whether it was tried and is the first of its kind to fail."""
        if write.kind == "begin":
            self._unopened.add(write.run)
        if not tried:
            return False
        before, _ = self._kinds.get(write.kind, (0, 0.0))
        self._kinds[write.kind] = (before + 1, time.monotonic())
        return not before

    def stored(self, write: Write) -> None:
        """Note that it is stored."""
        self._kinds.pop(write.kind, None)
        if write.kind == "begin":
            self._unopened.discard(write.run)
