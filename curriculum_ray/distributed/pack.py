"""Several runs as one pack inside a Ray Train worker, each with its own folder, reports, checkpoints and end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curriculum_ray.distributed.job import read_ahead, stays_on_host
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
"""Called with the key of a run that ended and its result, None where it was stopped, or the error."""


def run_pack(
    jobs: list[Assignment],
    world: World,
    reports: list[Report],
    announce: Announce,
    ended: Ended,
    warned: Warned = lambda: False,
) -> None:
    """Train the runs of `jobs` together; `reports` has one entry for each.

    `ended` is called as soon as a run ends; one that is not finite, or that cannot be evaluated, ends alone. Any other
    error is raised, and concerns no run in particular: ConfigError where runs cannot be packed.
    """
    data = cached_data(jobs[0].config.data)
    configs = [job.config.train for job in jobs]
    ahead = read_ahead(configs, data) if stays_on_host(data, world.device) else []
    packed = PackedTrainer(configs, data, world, ahead or None)
    asked = (-1, False)  # images at the last call, and its answer

    def warned_once(place: int) -> Warned:
        """Ask once per step, for the first run that logs; all runs that log at that step get the same answer."""

        def ask() -> bool:
            nonlocal asked
            images = packed.members[place].images
            if images != asked[0]:
                asked = (images, warned())
            return asked[1]

        return ask

    def announced(place: int) -> Announce:
        """Report only the last checkpoint of a step to Ray Train: each report takes time."""

        def tell(path: Path | None, metrics: dict[str, Any]) -> None:
            if not packed.training or place == packed.active[-1]:
                announce(path, metrics)

        return tell

    runs = [
        _PackedRun(ended, job, trainer, data, report, announced(place), warned_once(place), len(jobs))
        for place, (job, trainer, report) in enumerate(zip(jobs, packed.members, reports, strict=True))
    ]
    try:
        train_together(packed, runs)
    finally:
        for batches in ahead:
            batches.close()
        for run in runs:
            run.close()


class _PackedRun(RunHooks):
    """A run of a pack, which may end while the others continue."""

    def __init__(self, ended: Ended, *run: Any) -> None:
        super().__init__(*run)
        self._ended = ended

    def on_end(self, end: End) -> None:
        """Evaluate the run if its budget was spent, and report how it ended."""
        how: RunResult | Exception | None
        try:
            how = end if isinstance(end, NonFiniteLoss) else self.end(end)
        except (NonFiniteLoss, FloatingPointError) as error:
            how = error
        self._ended(self.job.key, how)
