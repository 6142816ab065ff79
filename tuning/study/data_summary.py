"""The summary of the data: printed before anything starts, and stored in the run's folder and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from curriculum_ray.data import DataInfo, Dataset, DataSpec, DataSummary
from curriculum_ray.data.inspection import describe
from curriculum_ray.files import replace_file
from tuning.folder.layout import SUMMARY_FILE
from tuning.terminal.text import print_line

__all__ = ["keep_summary", "show_summary"]


def show_summary(
    spec: DataSpec, data: Dataset | DataInfo, say: Console | Callable[[str], object]
) -> DataSummary:
    """Print the summary of `data`, loaded from `spec`; of a stream, some images are inspected."""
    summary, _ = describe(spec, data)
    for line in summary.lines():
        if isinstance(say, Console):
            print_line(say, line)
        else:
            say(line)
    return summary


def keep_summary(summary: DataSummary, path: Path) -> Path:
    """Write the summary as JSON to the file `path`, or into the folder `path` under its usual name."""
    file = path / SUMMARY_FILE if path.is_dir() else path
    replace_file(file, json.dumps(summary.as_json(), indent=1, ensure_ascii=False))
    return file
