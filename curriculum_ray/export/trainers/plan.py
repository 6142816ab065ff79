"""When each stage of a schedule begins and what it draws, for trainers that count optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line
from curriculum_ray.curriculum import Changing, CurriculumSchedule, LogSnrClusters, NoImportance
from curriculum_ray.curriculum.base.core import TimeQuantile
from curriculum_ray.curriculum.cells import UncalibratedTimesteps
from curriculum_ray.curriculum.stage_draws import StageDraws
from curriculum_ray.diffusion.betas import BetaSchedule, alphas_cumprod
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, NoiseLevels

__all__ = ["Interval", "Plan", "PlannedStage", "make_plan"]

Interval = tuple[float, float, float]
"""(low, high, density): u in [low, high), 1 is noise, is drawn with this relative density."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage as a range of optimizer steps."""

    stage: int
    """Its number in the schedule, 0 is the first."""
    start: int
    """Optimizer steps that are done when it begins; 0 for the first."""
    end: int
    """Optimizer steps that are done when it ends; above `start`."""
    intervals: tuple[Interval, ...]
    """What it draws: intervals of u, ascending and disjoint."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A schedule on the noise levels of a process, laid out over the optimizer steps of one training."""

    schedule: CurriculumSchedule
    """What is exported."""
    source: str
    """The file that it came from, for people: one printable line."""
    levels: NoiseLevels
    """Timesteps 0 (clean) .. T-1 (noise), or flow times in [0, 1], 1 is noise."""
    stages: tuple[PlannedStage, ...]
    """The stages in order; each begins where the one before ends, the first at 0."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.stages[-1].end

    @property
    def name(self) -> str:
        """A name that is a Python identifier too, equal for equal schedules."""
        return f"curriculum_{self.schedule.schedule_id}"

    @property
    def origin(self) -> str:
        """A sentence that says where an exported file came from, on one printable line."""
        about = one_line(self.schedule.describe())
        return f"curriculum-ray schedule {self.schedule.schedule_id} of {self.source}: {about}."


def make_plan(
    schedule: CurriculumSchedule,
    *,
    source: str,
    kind: Literal["timesteps", "flow"],
    images: int,
    batch_size: int,
    num_timesteps: int = 1000,
    betas: BetaSchedule | None = None,
    stage_starts: Sequence[tuple[int, int]] | None = None,
) -> Plan:
    """Lay `schedule` out over a training on `images` images in steps of `batch_size`.

    source: where the schedule came from, for people.
    kind: the noise levels; num_timesteps: T of timesteps.
    betas: the noise schedule of timesteps, for schedules that read the log-SNR.
    stage_starts: (images seen, stage) as a finished run recorded them, ascending from 0 images; needed where the pacing
    reads losses, and obeyed wherever it is given.

    Raises `ConfigError` naming the key where the schedule does not fit, or cannot be laid out beforehand.
    """
    if not isinstance(schedule.importance, NoImportance):
        raise ConfigError(
            "importance.rule must be none for another trainer, because it follows the losses of the run, but got "
            f"{schedule.importance.rule}"
        )
    if isinstance(schedule.base, Changing):
        raise ConfigError(
            "base.kind must be one distribution for the whole of training for another trainer, but got changing"
        )
    levels = _levels(schedule, kind, num_timesteps, betas)
    draws = StageDraws(schedule, levels, images)
    starts = _starts(schedule, images, batch_size, stage_starts)
    steps = -(-images // batch_size)
    begins = [-(-seen // batch_size) for seen, _ in starts]
    stages = []
    for (seen, stage), begin, end in zip(starts, begins, [*begins[1:], steps], strict=True):
        if end <= begin:
            raise ConfigError(
                f"each stage must last at least one step of {batch_size} images within {images:,} images, but stage "
                f"{stage} begins after {seen:,} images and is left or cut off before the next step"
            )
        draws.aim_at(stage)
        stages.append(PlannedStage(stage=stage, start=begin, end=end, intervals=tuple(draws.intervals)))
    return Plan(schedule=schedule, source=one_line(source), levels=levels, stages=tuple(stages))


def _levels(
    schedule: CurriculumSchedule, kind: Literal["timesteps", "flow"], count: int, betas: BetaSchedule | None
) -> NoiseLevels:
    if kind == "flow":
        return FlowTimes()
    reads = not isinstance(schedule.base, TimeQuantile) or isinstance(schedule.clusters, LogSnrClusters)
    if betas is not None and not reads:
        raise ConfigError(
            f"--betas does not apply to a schedule that reads no log-SNR, as with base.kind {schedule.base.kind} and "
            f"clusters.by {schedule.clusters.by}, but got {betas}"
        )
    if betas is not None:
        return DiscreteTimesteps(alphas_cumprod(betas, count))
    if reads:
        raise ConfigError(
            f"--betas must tell the noise schedule of timesteps, whose log-SNR this schedule reads by base.kind "
            f"{schedule.base.kind} and clusters.by {schedule.clusters.by}"
        )
    return UncalibratedTimesteps(count)


def _starts(
    schedule: CurriculumSchedule,
    images: int,
    batch_size: int,
    recorded: Sequence[tuple[int, int]] | None,
) -> Sequence[tuple[int, int]]:
    """(images seen, stage) at the start of each stage."""
    if recorded is not None:
        wrong = [stage for _, stage in recorded if not 0 <= stage < schedule.num_stages]
        if wrong or not recorded or recorded[0][0] != 0:
            raise ConfigError(
                f"stage_starts must begin at 0 images with stages below {schedule.num_stages}, but got {list(recorded)}"
            )
        return recorded
    pacing = schedule.pacing
    if pacing is None:
        return [(0, 0)]
    if pacing.build(schedule.num_stages, images, batch_size).reads_losses:
        raise ConfigError(
            f"pacing.rule must go by images, as fixed does, to be known beforehand, but got {pacing.rule}: name a "
            "finished run of this schedule, whose stages are then repeated, with --run"
        )
    schedule.check_ladder(batch_size, images)
    return [(seen, stage) for stage, seen in pacing.earliest(schedule.num_stages, images, batch_size)]
