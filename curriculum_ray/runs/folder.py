"""Names of the files and folders in a run's folder; those of a study are in `tuning.folder.layout`."""

from __future__ import annotations

__all__ = [
    "BEST",
    "CONFIG_FILE",
    "CORRUPT_FILE",
    "DRIVER_LOG",
    "ERROR_FILE",
    "HELDOUT_FILE",
    "LOG_FILE",
    "PREVIEWS",
    "PROFILES",
    "RESULT_FILE",
    "SAMPLED_FILE",
    "SAMPLED_PLOT",
    "SAMPLES_FILE",
    "SCHEDULE_FILE",
    "SNAPSHOTS",
    "WORKER_LOGS",
]

CONFIG_FILE = "config.yaml"
"""Every setting of the run: `train --config` repeats it."""
SCHEDULE_FILE = "schedule.yaml"
"""The curriculum alone, to be reused by other runs."""
LOG_FILE = "metrics.jsonl"
"""The log: one JSON object a line."""
HELDOUT_FILE = "heldout.json"
"""Held-out losses by noise level, rewritten after each measurement."""
RESULT_FILE = "result.json"
"""The result; written once the run has ended."""
SAMPLED_FILE = "sampled_timesteps.json"
"""Histogram of the noise levels that were drawn, over the images seen."""
SAMPLED_PLOT = "sampled_timesteps.png"
"""The same as a plot."""
SAMPLES_FILE = "samples.png"
"""A grid of generated items."""
CORRUPT_FILE = "corrupt_images.txt"
"""Images of a stream that could not be read and were skipped, one a line."""
ERROR_FILE = "error.txt"
"""The traceback of the last failure."""
DRIVER_LOG = "driver.log"
"""What the driver of a study or of a single run logs, and Ray's warnings to it."""
WORKER_LOGS = "worker-*.log"
"""What the worker of each rank printed and logged."""

BEST = "best"
"""Folder of the checkpoint with the lowest preview FID."""
PREVIEWS = "previews"
"""Folder of the sample grids generated during training, named by images seen."""
PROFILES = "profile"
"""Folder of the profiler's traces, named by the images seen at their end."""
SNAPSHOTS = "snapshots"
"""Folder of the averages from which other EMA widths are rebuilt."""
