"""How long a study has run, over all of its starts, and how fast: time.json in its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from curriculum_ray.config.stored import Stored
from curriculum_ray.files import replace_file
from tuning.folder.layout import TIME_FILE

__all__ = ["StudyClock", "TimeUsed"]

_EVERY_S = 1.0
_MOST_MEASURED = 32


class TimeUsed(Stored):
    """Contents of time.json."""

    seconds: float = 0.0
    """In which a driver of the study ran."""
    measured: tuple[tuple[float, float], ...] = ()
    """Seconds an image, and seconds an evaluation, of the latest trials that finished."""
    hours: float | None = None
    """The budget of the last start; None where it had none."""
    closed: tuple[str, ...] = ()
    """Phases of which trials were left out within that budget: more time opens them again."""


class StudyClock:
    """Counts the time of a study on, from where its folder says; a kill loses what passed since the last report."""

    def __init__(self, folder: Path, hours: float | None) -> None:
        """hours: the budget of this start."""
        self._path = folder / TIME_FILE
        before = TimeUsed.read(self._path) or TimeUsed()
        same = hours is not None and before.hours is not None and hours <= before.hours
        self._used = before.model_copy(update={"hours": hours, "closed": before.closed if same else ()})
        self._before, self._start, self._saved = before.seconds, time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """The time used so far."""
        return self._before + time.monotonic() - self._start

    @property
    def used(self) -> TimeUsed:
        """What the file holds."""
        return self._used

    def measured(self, seconds_per_image: float, seconds_per_evaluation: float) -> None:
        """A trial finished at this speed."""
        latest = (*self._used.measured, (seconds_per_image, seconds_per_evaluation))[-_MOST_MEASURED:]
        self._used = self._used.model_copy(update={"measured": latest})

    def closes(self, phases: Iterable[str]) -> None:
        """These phases are closed."""
        self._used = self._used.model_copy(update={"closed": tuple(sorted(phases))})

    def tick(self, now: bool = False) -> None:
        """Write the file, once a second at most, or `now`; a full disk is no error."""
        if not now and time.monotonic() - self._saved < _EVERY_S:
            return
        self._saved = time.monotonic()
        self._used = self._used.model_copy(update={"seconds": self.seconds})
        with suppress(OSError):
            replace_file(self._path, json.dumps(self._used.to_json(), indent=1), durable=now)
