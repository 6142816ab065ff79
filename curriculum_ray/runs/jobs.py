"""Messages between a driver, its board and the workers of its slots: jobs one way, events the other.

These types are pickled between processes that one driver started, and never written to disk. They import no torch: a
board and the actors of a search's trials only pass them on, and torch would cost each of them half a GiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import parse
from curriculum_ray.runs.log import LoggedLine
from curriculum_ray.runs.result import HeldoutPoint, RunResult
from curriculum_ray.training.profile_spec import ProfiledSteps
from curriculum_ray.training.readings import NO_READINGS, Readings

if TYPE_CHECKING:
    from curriculum_ray.runs.config import RunConfig
    from curriculum_ray.training.trainer import LogLine

__all__ = [
    "Assignment",
    "Dropped",
    "End",
    "Event",
    "Failed",
    "Finished",
    "Job",
    "JobState",
    "JobStatus",
    "PreviewScore",
    "Progress",
    "Started",
    "Stopped",
]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be trained."""

    key: str
    """Its name: unique on its board, and part of its checkpoints' names."""
    settings: Mapping[str, Any]
    """A RunConfig as JSON values; `Assignment.config` reads them."""
    folder: Path
    """Where its results go, including its last checkpoint."""
    resume_from: tuple[Path, ...] = ()
    """Other folders that may hold its checkpoints."""
    pack: str | None = None
    """Equal for jobs that may be trained together; None for a job that is trained alone."""
    profile: ProfiledSteps | None = None
    """The steps that a job trained alone records."""
    copy: WorkingCopy | None = None
    """Where its folders are the working copy of folders in a bucket; None where they are themselves the results'."""

    @classmethod
    def of(
        cls,
        key: str,
        config: RunConfig,
        folder: Path,
        resume_from: Iterable[Path] = (),
        profile: ProfiledSteps | None = None,
        copy: WorkingCopy | None = None,
    ) -> Job:
        """The job of training `config` into `folder`."""
        return cls(
            key=key,
            settings=config.model_dump(mode="json"),
            folder=folder,
            resume_from=tuple(resume_from),
            profile=profile,
            copy=copy,
        )

    def assigned(self, checkpoints: Path) -> Assignment:
        """The job for the workers of a slot that keeps its checkpoints in the folder `checkpoints`."""
        return Assignment(
            key=self.key,
            settings=self.settings,
            folder=self.folder,
            resume_from=self.resume_from,
            pack=self.pack,
            profile=self.profile,
            copy=self.copy,
            checkpoints=checkpoints,
        )


@dataclass(frozen=True, kw_only=True)
class Assignment(Job):
    """A job that the workers of a slot have taken."""

    checkpoints: Path
    """Where the checkpoints during training go."""

    @cached_property
    def config(self) -> RunConfig:
        """The validated settings; ConfigError where they are invalid."""
        from curriculum_ray.runs.config import RunConfig

        return parse(RunConfig, self.settings, f"run {self.key}")

    def shown(self, path: Path) -> str:
        """Where people find what lies at `path`: there, or in the bucket of which it is a copy."""
        return str(path) if self.copy is None else self.copy.shown(path)

    @property
    def roots(self) -> list[Path]:
        """Every folder that may hold checkpoints of the job."""
        return list(dict.fromkeys((self.folder, self.checkpoints, *self.resume_from)))


@dataclass(frozen=True, kw_only=True)
class PreviewScore:
    """Metrics of a model during training."""

    images: int
    """Images that it had seen; an asynchronous preview is reported later."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, as of its last log line, with the measurements since the previous report."""

    images: int
    """Images seen, over all workers."""
    loss: float
    """Mean over the interval that was logged, unweighted."""
    stage: int
    """Of the schedule; 0 is the first."""
    num_stages: int
    images_per_second: float
    total_images: int
    """The budget."""
    snapshot: Mapping[str, Any]
    """The schedule's state for display: see `TimestepSampler.snapshot`."""
    skipped_updates: int = 0
    """Updates that the spike guard has skipped so far."""
    readings: Readings = NO_READINGS
    heldout: tuple[HeldoutPoint, ...] = ()
    """Held-out losses measured since the previous report."""
    preview: PreviewScore | None = None
    """A preview scored since the previous report."""

    @classmethod
    def of(cls, line: LogLine, total_images: int, heldout: tuple[HeldoutPoint, ...] = ()) -> Progress:
        """The progress in a trainer's log line."""
        return cls(
            images=line.images,
            loss=line.loss,
            stage=line.stage,
            num_stages=line.num_stages,
            images_per_second=line.images_per_second,
            total_images=total_images,
            snapshot=dict(line.snapshot),
            skipped_updates=line.skipped_updates,
            readings=line.readings,
            heldout=heldout,
        )

    def metrics(self) -> dict[str, float]:
        """Those of the line in the log: see `LoggedLine.metrics`."""
        return LoggedLine.of(self).metrics()

    def with_preview(self, images: int, metrics: Mapping[str, float]) -> Progress:
        """The same report with a preview that was scored later."""
        return replace(self, heldout=(), preview=PreviewScore(images=images, metrics=metrics))


@dataclass(frozen=True, kw_only=True)
class Started:
    """A slot has taken the job."""

    attempt: int
    """Counts the slots that have taken it, from 1."""
    resized: bool = False
    """Whether it was taken up again because its number of workers was changed, and not because they were lost."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run spent its budget and was evaluated."""

    result: RunResult


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The run could not be finished."""

    reason: str


@dataclass(frozen=True)
class Stopped:
    """The run stopped because it was asked to, or never started."""


@dataclass(frozen=True)
class Dropped:
    """An event that nobody read in time."""


End = Finished | Failed | Stopped
"""How a job ends."""
Event = Started | Progress | End | Dropped
"""What a board reports about a job."""

JobState = Literal["queued", "running", "finished", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What a board knows about a job."""

    state: JobState
    attempts: int
    """How often it was started."""
    reason: str | None
    """Why it failed, or was stopped by the board's judge."""
    progress: Progress | None
    """Its last report."""
