"""Several runs as one pack inside a Ray Train worker, each with its own folder, reports, checkpoints and end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curriculum_ray.runs.hooks import Announce, Report, RunHooks, Warned
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.prepared import cached_data
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.loop import LogLine, NonFiniteLoss, Trainer, World
from curriculum_ray.training.packed import PackedTrainer

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
        RunHooks(job, trainer, data, report, announced(place), warned_once(place))
        for place, (job, trainer, report) in enumerate(zip(jobs, packed.members, reports, strict=True))
    ]

    def on_log(place: int, progress: LogLine) -> bool:
        return runs[place].on_log(progress)

    def on_checkpoint(place: int, trainer: Trainer) -> None:
        runs[place].on_checkpoint(trainer)

    def on_preview(place: int, trainer: Trainer) -> bool:
        return runs[place].on_preview(trainer)

    def on_snapshot(place: int, trainer: Trainer) -> None:
        runs[place].on_snapshot(trainer)

    def on_heldout(place: int, trainer: Trainer) -> None:
        runs[place].on_heldout(trainer)

    def on_end(place: int, end: bool | NonFiniteLoss) -> None:
        key = jobs[place].key
        if isinstance(end, NonFiniteLoss):
            ended(key, end)
            return
        try:
            result = runs[place].end(end)
        except (NonFiniteLoss, FloatingPointError) as error:
            ended(key, error)
        else:
            ended(key, result)

    packed.run(on_log, on_checkpoint, on_preview, on_snapshot, on_end, on_heldout)
