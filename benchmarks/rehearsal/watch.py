"""What a study on the cluster is doing, read from the disks of its machines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from curriculum_ray.runs.log import logged
from rehearsal.lab import Lab, Tune

STUDY = "study"
_POLL_S = 0.05


class Watch:
    """Follows the trials of the study; the driver that runs it may change."""

    def __init__(self, lab: Lab, driver: Tune) -> None:
        self._lab, self.driver = lab, driver

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 1800.0) -> float:
        """Wait until `condition` holds while the driver runs; returns the time then."""
        end = time.time() + seconds
        while not condition():
            self.driver.alive()
            assert time.time() < end, f"{what}: not in {seconds:g} s"
            time.sleep(_POLL_S)
        return time.time()

    def log(self, key: str) -> tuple[Path | None, int, int]:
        """The log of a trial where it was written last: its path, its time, and the images of its last line."""
        found = []
        for machine in list(self._lab.cluster.machines.values()):
            for path in machine.disk.glob(f"*/{STUDY}/trials/{key}/metrics.jsonl"):
                try:
                    found.append((path.stat().st_mtime_ns, path))
                except FileNotFoundError:
                    continue
        if not found:
            return None, 0, 0
        when, path = max(found)
        lines = logged(path.parent)
        return path, when, lines[-1].images if lines else 0

    def seen(self, key: str) -> int:
        """The images that a trial has logged so far; 0 before it trains."""
        return self.log(key)[2]

    def starts(self, key: str) -> int:
        """How often workers took a trial, by the log of the driver."""
        # A second driver has fetched what the first one wrote.
        return len(
            {
                line
                for path in self._of_drivers("driver.log")
                for line in path.read_text().splitlines()
                if f"trial {key} starts: " in line
            }
        )

    def _of_drivers(self, name: str) -> list[Path]:
        """A file of the study on the disks of its drivers."""
        return [
            path
            for machine, place in list(self._lab.cluster.machines.items())
            if machine.startswith("driver")
            for path in place.disk.glob(f"*/{STUDY}/{name}")
        ]

    def trains_again(self, key: str, starts: int) -> float:
        """When a trial first logged a line after workers took it more than `starts` times."""

        def taken() -> bool:
            ended = self._of_drivers(f"trials/{key}/record.json")
            assert not ended or self.starts(key) > starts, f"{key} had ended when the fault came"
            return self.starts(key) > starts

        self.until(taken, f"{key} is taken again")
        before = self.log(key)

        def changed() -> bool:
            now = self.log(key)
            return now[:2] != before[:2] and now[2] > 0

        return self.until(changed, f"{key} trains again")
