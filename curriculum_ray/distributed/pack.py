"""Several runs as one pack inside a Ray Train worker, each with its own folder, reports, checkpoints and end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curriculum_ray.runs.hooks import Announce, Report, RunHooks, Warned
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.prepared import cached_data
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.hooks import End
from curriculum_ray.training.loop import train_together
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import NonFiniteLoss
from curriculum_ray.training.world import World

__all__ = ["Ended", "run_pack"]

Ended = Callable[[str, RunResult | Exception | None], None]
"""Tells how the run of a key ended: its result, None where it was stopped, or why it failed."""


def run_pack(
    jobs: list[Assignment],
    world: World,
    reports: list[Report],
    announce: Announce,
    ended: Ended,
    warned: Warned = lambda: False,
) -> None:
    """Train the runs of `jobs` together; `reports` has one for each.

    `ended` is told of each run as soon as it ends; one that is not finite, or that cannot be evaluated, ends alone.
    Whatever else goes wrong is raised, and says nothing of those of which `ended` was not told: ConfigError where runs
    cannot be packed.
    """
    data = cached_data(jobs[0].config.data)
    packed = PackedTrainer([job.config.train for job in jobs], data, world)
    asked = (-1, False)  # at how many images, and the answer

    def warned_once(place: int) -> Warned:
        """Asked by the first to log at a step, and answered alike to all who log at it."""

        def ask() -> bool:
            nonlocal asked
            images = packed.members[place].images
            if images != asked[0]:
                asked = (images, warned())
            return asked[1]

        return ask

    def announced(place: int) -> Announce:
        """Ray Train hears of the last checkpoint of a step only: it takes a moment each time."""

        def tell(path: Path | None, metrics: dict[str, Any]) -> None:
            if not packed.training or place == packed.active[-1]:
                announce(path, metrics)

        return tell

    runs = [
        _PackedRun(ended, job, trainer, data, report, announced(place), warned_once(place))
        for place, (job, trainer, report) in enumerate(zip(jobs, packed.members, reports, strict=True))
    ]
    train_together(packed, runs)


class _PackedRun(RunHooks):
    """A run of a pack, which ends while the others go on."""

    def __init__(self, ended: Ended, *run: Any) -> None:
        super().__init__(*run)
        self._ended = ended

    def on_end(self, end: End) -> None:
        """Evaluate the run where its budget was spent, and tell how it ended."""
        how: RunResult | Exception | None
        try:
            how = end if isinstance(end, NonFiniteLoss) else self.end(end)
        except (NonFiniteLoss, FloatingPointError) as error:
            how = error
        self._ended(self.job.key, how)
