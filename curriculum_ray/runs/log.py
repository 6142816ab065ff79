"""A run's log, metrics.jsonl: one JSON object a line; torn lines count as not written. Imports no torch."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import LOG_FILE

if TYPE_CHECKING:
    from curriculum_ray.runs.jobs import Progress
    from curriculum_ray.training.trainer import LogLine

__all__ = ["LoggedLine", "append_line", "cut_log", "lines_of", "log_of", "logged"]

_LOG = logging.getLogger(__name__)


class LoggedLine(pydantic.BaseModel):
    """A line of the log; only the first preview after a resume may lack the fields that training reports."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    images: int
    """Images seen, over all workers."""
    loss: float | None = None
    """Mean over the interval that was logged, unweighted."""
    stage: int | None = None
    """Of the schedule; 0 is the first."""
    num_stages: int | None = None
    images_per_second: float | None = None
    skipped_updates: int | None = None
    """Updates that the spike guard has skipped so far, if any."""
    learning_rate: float | None = None
    """Of this and the next four, see `training.readings`."""
    gradient_norm: float | None = None
    data_wait: float | None = None
    mfu: float | None = None
    gpu_memory_gib: float | None = None
    preview: dict[str, float] | None = None
    """Metrics of a preview that was scored at this moment."""

    @classmethod
    def of(cls, line: LogLine | Progress) -> LoggedLine:
        """What a trainer logs, or reports."""
        own = cls(
            images=line.images,
            loss=line.loss,
            stage=line.stage,
            num_stages=line.num_stages,
            images_per_second=line.images_per_second,
            skipped_updates=line.skipped_updates or None,
        )
        return own.model_copy(update=line.readings.known())

    def metrics(self) -> dict[str, float]:
        """What training reports, by name, as MLflow shows it; empty for a preview alone."""
        found = self.model_dump(exclude={"images", "num_stages", "preview"}, exclude_none=True)
        return {name: float(value) for name, value in found.items()}

    def to_json(self) -> str:
        """The line as JSON, without fields that are None."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True))


def log_of(folder: Path) -> Path:
    """The log of the run in `folder`."""
    return folder / LOG_FILE


def logged(folder: Path) -> list[LoggedLine]:
    """The whole lines of a run's log, in order; none where there is no log."""
    try:
        return lines_of(log_of(folder).read_text(errors="replace"))
    except FileNotFoundError:
        return []


def lines_of(text: str) -> list[LoggedLine]:
    """The whole lines in the text of a log, in order."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(LoggedLine.model_validate(json.loads(line)))
        except (ValueError, RecursionError):
            continue
    return lines


def append_line(folder: Path, line: LoggedLine) -> None:
    """Add a line; on a full disk it is skipped, and a message says so."""
    path = log_of(folder)
    before = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a") as file:
            file.write(line.to_json() + "\n")
    except OSError as error:
        if path.exists():
            os.truncate(path, before)
        _LOG.warning("%s: the line after %d images was not written: %s", path, line.images, error.strerror)


def cut_log(folder: Path, images: int) -> None:
    """Drop the lines that an interrupted attempt wrote after the checkpoint it resumes from, at `images`."""
    if log_of(folder).exists():
        kept = [line for line in logged(folder) if line.images <= images]
        replace_file(log_of(folder), "".join(line.to_json() + "\n" for line in kept))
