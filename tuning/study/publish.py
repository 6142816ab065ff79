"""Stores a finished run in MLflow: its metrics, schedule, settings, samples and sampled noise levels."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.runs.folder import (
    CONFIG_FILE,
    HELDOUT_FILE,
    SAMPLED_FILE,
    SAMPLED_PLOT,
    SAMPLES_FILE,
    SCHEDULE_FILE,
)
from curriculum_ray.runs.log import logged
from curriculum_ray.runs.result import Measured
from tuning.tracking import Tracker

__all__ = ["publish"]

_FILES = (
    SCHEDULE_FILE,
    CONFIG_FILE,
    SAMPLES_FILE,
    SAMPLED_PLOT,
    SAMPLED_FILE,
    HELDOUT_FILE,
)


def publish(tracker: Tracker, run: str, folder: Path, result: Measured) -> None:
    """Store the log, metrics, stages and files of the run in `folder`, and end it as FINISHED.

    The step of the metric `images_in_stage` is the place of the stage among those that the schedule asks for.
    """
    from tuning.figures.levels import plot_sampled

    lines = (line for line in logged(folder) if line.preview is None)
    tracker.log_history(run, ((line.images, line.metrics()) for line in lines))
    walked = {} if result.stages_walked is None else {"stages_walked": result.stages_walked}
    tracker.log(run, {**result.metrics, **walked}, result.images)
    for place, length in enumerate(result.images_in_stage):
        tracker.log(run, {"images_in_stage": length}, place)
    if result.devices:
        tracker.tags(run, {"devices": list(result.devices)})
    plot_sampled(folder / SAMPLED_FILE, folder / SAMPLED_PLOT)
    tracker.artifacts(run, [folder / name for name in _FILES if (folder / name).exists()])
    tracker.finish(run, "FINISHED")
