"""What a finished run leaves in MLflow: its metrics, schedule, settings, samples and what was really sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tuning.tracking import Tracker

__all__ = ["publish"]

_FILES = ("schedule.yaml", "config.yaml", "samples.png", "sampled_timesteps.png", "sampled_timesteps.json")


def publish(tracker: Tracker, run: str, folder: Path, metrics: Mapping[str, float], images: int) -> None:
    """Store the metrics and files of the run in `folder` after `images` images, and end it as FINISHED."""
    from tuning.report.plots import plot_sampled

    tracker.log(run, metrics, images)
    plot_sampled(folder / "sampled_timesteps.json", folder / "sampled_timesteps.png")
    tracker.artifacts(run, [folder / name for name in _FILES if (folder / name).exists()])
    tracker.finish(run, "FINISHED")
