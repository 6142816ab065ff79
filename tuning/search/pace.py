"""How a study keeps to its hours: what is known of its speed, which trials were left out, and how it says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.distributed.capacity import Capacity, available_cpus, room
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.log import logged
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.footprint import footprint
from curriculum_ray.words import number_of
from tuning.evidence.keys import TrialKey
from tuning.folder.layout import TIME_FILE
from tuning.folder.time_used import StudyClock
from tuning.study.calibration import TrialSpeed, Unmeasured, calibrate, measuring_device
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.plan import StudyPlan
from tuning.study.time_budget import TimeBudget, fit_into, speed_of, work_of
from tuning.study.trial_spec import TrialSpec

__all__ = ["Pace", "first_guess", "in_words"]

_HOUR = 3600.0
_SURELY = 2.0
"""A calibration of a second, on a machine that may be busy, can be off by so much."""


def first_guess(
    config: StudyConfig,
    run: RunConfig,
    data: Dataset | DataInfo,
    folder: Path,
    controls: Controls,
    slots: int | None,
    copy: WorkingCopy | None = None,
) -> TrialSpeed | None:
    """Calibrate a study that has a budget of time, before its first start; ConfigError where it is too small for it.

    None where nothing can be said here: without a budget, on a cluster or a GPU, for a network that is too large to be
    measured in seconds, and where the study was started before, as its folder says, or the bucket of which that is a
    working copy, `copy`.
    """
    elsewhere = os.environ.get("RAY_ADDRESS") or config.resources.use_gpu or torch.cuda.is_available()
    if config.hours is None or elsewhere or _was_started(folder, copy):
        return None
    try:
        network = footprint(run.model, data.shape, data.conditioning, run.precision != "fp32", run.lora)
        found = calibrate(run, data, network, measuring_device(False), config.resources, config.pack)
    except Unmeasured:
        return None
    if slots is None:
        cpus = Capacity.of({"CPU": float(available_cpus())})
        slots = room(config.resources, config.maximum_trials(controls), cpus, config.pack, config.share)
    speed = found.speed(run.batch_size, config.pack)
    fitting = fit_into(config, controls, speed, slots * config.pack)
    assert fitting is not None
    if fitting.least > _SURELY * config.hours:
        raise ConfigError(
            f"hours must be about {fitting.least:.2g} for controls, one schedule, its twins and the confirmations, "
            f"by {1000 * found.seconds_per_step:.0f} ms a step and {found.seconds_per_evaluation:.1f} s an evaluation "
            f"here, but got {config.hours:g}: give more, or lower confirm_seeds or run.images"
        )
    return speed


def _was_started(folder: Path, copy: WorkingCopy | None) -> bool:
    """Whether a study has used some of its time; ConfigError where its bucket cannot be read."""
    if (folder / TIME_FILE).exists():
        return True
    if copy is None:
        return False
    there = copy.there(folder)
    try:
        return there.read(TIME_FILE) is not None
    except BucketError as error:
        raise there.unusable(error) from None


class Pace:
    """The clock of a study that runs and, where its time is limited, what is left of it."""

    def __init__(
        self,
        config: StudyConfig,
        clock: StudyClock,
        concurrent: int,
        guess: TrialSpeed | None,
        say: Callable[[str], None],
    ) -> None:
        """concurrent: trials at a time. say: is given a line when trials are left out."""
        self._config, self.clock, self._say = config, clock, say
        self.left_out: str | None = None
        self._noted = 0
        self.budget: TimeBudget | None = None
        if config.hours is not None:
            whole = config.hours * _HOUR
            earlier = [TrialSpeed(*speed) for speed in clock.used.measured]
            self.budget = TimeBudget(lambda: whole - clock.seconds, concurrent, earlier, guess)

    def started(self, planned: TrialSpec) -> None:
        """A trial starts."""
        self.clock.tick()
        if self.budget is not None:
            work = work_of(self._config, planned.role, planned.control, planned.images)
            self.budget.started(planned.key, work)

    def ended(self, planned: TrialSpec, result: RunResult | None, folder: Path) -> None:
        """A trial ended; result: its own, if it finished. folder: of its run."""
        speed = None
        if result is not None and not result.resumed_at:
            work = work_of(self._config, planned.role, planned.control, planned.images)
            rates = [line.images_per_second or 0.0 for line in logged(folder) if line.preview is None]
            speed = speed_of(result.images, result.seconds, rates, work)
        if speed is not None:
            self.clock.measured(speed.seconds_per_image, speed.seconds_per_evaluation)
        if self.budget is not None:
            self.budget.ended(planned.key, speed)
        self.clock.tick()

    def note_left_out(self, plan: StudyPlan) -> None:
        """Keep and say what the plan has left out, whenever it is more than before."""
        if self._config.hours is None or len(plan.left_out) == self._noted:
            return
        self._noted = len(plan.left_out)
        self.clock.closes(plan.closed)
        self.left_out = in_words(plan.left_out, self._config.hours)
        self._say(self.left_out)


def in_words(left_out: Collection[TrialKey], hours: float) -> str:
    """What there was no time for: "in 8 hours there was no time for 5 schedules and 2 fresh seeds (9 trials): …"."""
    kinds: dict[str, set[str]] = {
        "schedule": {str(key) for key in left_out if key.startswith(("search-", "rung"))},
        "twin": {str(key) for key in left_out if key.startswith("twin-")},
        "fresh seed": {key.rpartition("-seed")[2] for key in left_out if key.startswith("confirm-")},
    }
    parts = [number_of(len(keys), kind) for kind, keys in kinds.items() if keys]
    *most, last = parts
    words = f"{', '.join(most)} and {last}" if most else last
    trials = number_of(len(left_out), "trial")
    return f"in {hours:g} hours there was no time for {words} ({trials}): the same command with more hours goes on"
