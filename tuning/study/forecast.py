"""What a study would do and take, before anything is spent: its trials, schedules, time, memory and fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.distributed.head_memory import driver_node_bytes, usable_bytes
from curriculum_ray.distributed.slots import are_together
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.training.footprint import Footprint, footprint
from tuning.evidence.expected import ExpectedSeeds, expected_seeds
from tuning.evidence.scale import Scale
from tuning.study.calibration import Calibration, Unmeasured, calibrate, evaluation_flops, measuring_device
from tuning.study.controls import Controls
from tuning.study.cost import Estimate, estimate
from tuning.study.memory import Memory, memory_per_worker
from tuning.study.named_arms import named_arm
from tuning.study.noise import Noise, find_noise
from tuning.study.plan import plain_schedule
from tuning.study.sketches import sampled
from tuning.study.study_room import StudyRoom
from tuning.study.time_budget import Fitting, fit_into

if TYPE_CHECKING:
    from curriculum_ray.data import DataInfo, Dataset
    from curriculum_ray.evaluation import Evaluator
    from curriculum_ray.runs.config import RunConfig
    from tuning.study.config import StudyConfig
    from tuning.study.space import SearchSpace

__all__ = ["Forecast", "forecast"]

_EFFECTS = (5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Forecast:
    """What a study would do and take."""

    config: StudyConfig
    """With as many workers a trial as it would have while all slots are taken."""
    space: SearchSpace
    controls: tuple[str, ...]
    """uniform, and the rivals."""
    schedules: dict[str, CurriculumSchedule]
    """Some of those that would be run: the first arms by their names, or what a search might sample, by number."""
    batch_size: int
    room: StudyRoom
    network: Footprint
    memory: Memory
    """Of a worker."""
    driver_bytes: int
    """That the study takes on the driver's node."""
    usable_bytes: int
    """That the driver's node has for them."""
    measured: Calibration | Unmeasured
    cost: Estimate
    noise: Noise | None
    """None where it is not known."""
    expected: tuple[ExpectedSeeds, ...]
    """By effect; empty where the noise is not known, or nothing is confirmed."""
    fitting: Fitting | None
    """None without a limit of time, or where the speed is not known."""
    unvisited: str | None
    """What evaluations cannot see, in one line."""

    @property
    def calibration(self) -> Calibration | None:
        """What was measured, if anything was."""
        return None if isinstance(self.measured, Unmeasured) else self.measured

    def to_json(self) -> dict[str, Any]:
        """All of it, for other programs."""
        return {
            "space": self.space.model_dump(mode="json"),
            "arms": list(self.config.arms),
            "controls": list(self.controls),
            "batch_size": self.batch_size,
            "calibration": self.calibration and asdict(self.calibration),
            "unmeasured": str(self.measured) if isinstance(self.measured, Unmeasured) else None,
            "network": asdict(self.network),
            "memory": {**asdict(self.memory), "total": self.memory.total},
            "room": self.room.in_words,
            "driver_node": {"bytes": self.driver_bytes, "usable": self.usable_bytes},
            **asdict(self.cost),
            "noise": None if self.noise is None else asdict(self.noise),
            "expected_seeds": [asdict(each) for each in self.expected],
            "hours": None if self.fitting is None else asdict(self.fitting),
            "schedules": [schedule.to_dict() for schedule in self.schedules.values()],
            "unvisited": self.unvisited,
        }


def forecast(
    config: StudyConfig,
    space: SearchSpace,
    run: RunConfig,
    data: Dataset | DataInfo,
    evaluator: Evaluator,
    rivals: Sequence[str],
    room: StudyRoom,
    *,
    output: Path,
    pictures: int,
    effects: Sequence[float] = (),
    for_gpu: bool = False,
    price: float | None = None,
) -> Forecast:
    """Time a few training steps and part of an evaluation in this process, and extrapolate them to the study.

    run, data, evaluator: of a trial, as checked. output: where studies lie that know the noise. pictures: how many
    schedules to show. effects: gains in percent for which to estimate the seeds, by default 5, 10 and 20. for_gpu:
    whether the study would train on GPUs. price: of one worker-hour.
    """
    # What is measured and counted is for as many workers as a trial has where all slots are taken.
    least = config.resources.workers[0]
    config = config.model_copy(
        update={"resources": config.resources.with_most(max(least, room.workers // room.slots))}
    )
    network = footprint(run.model, data.shape, data.conditioning, run.precision != "fp32", run.lora)
    try:
        device = measuring_device(for_gpu)
        measured: Calibration | Unmeasured = calibrate(
            run, data, network, device, config.resources, config.pack
        )
    except Unmeasured as reason:
        measured = reason
    found = None if isinstance(measured, Unmeasured) else measured
    a_step, an_evaluation = network.train_flops, evaluation_flops(evaluator.spec, network)
    flops = (run.batch_size * a_step, an_evaluation) if a_step and an_evaluation else None
    controls = Controls.of(len(rivals), space, config.run)
    cost = estimate(config, controls, found, room.slots, for_gpu, price, flops)
    noise = find_noise(output, data.name, evaluator.fingerprint, config.metric)
    speed = None if found is None else found.speed(run.batch_size, config.pack)
    return Forecast(
        config=config,
        space=space,
        controls=("uniform", *rivals),
        schedules=_shown(config, space, pictures),
        batch_size=run.batch_size,
        room=room,
        network=network,
        memory=memory_per_worker(run, network, data, least, config.pack),
        driver_bytes=driver_node_bytes(room.slots, room.alone, are_together(config.resources)),
        usable_bytes=usable_bytes(),
        measured=measured,
        cost=cost,
        noise=noise,
        expected=_expected(config, controls, noise, effects or _EFFECTS) if noise else (),
        fitting=None if speed is None else fit_into(config, controls, speed, cost.concurrent),
        unvisited=unvisited_line(run, data.shape),
    )


def _shown(config: StudyConfig, space: SearchSpace, count: int) -> dict[str, CurriculumSchedule]:
    if not config.arms:
        return {str(number): schedule for number, schedule in enumerate(sampled(config, space, count))}
    plain = plain_schedule(config)
    found = {name: named_arm(name, keys, plain, config.seed).schedule for name, keys in config.arms.items()}
    return {name: schedule for name, schedule in list(found.items())[:count] if schedule is not None}


def _expected(
    config: StudyConfig, controls: Controls, noise: Noise, effects: Sequence[float]
) -> tuple[ExpectedSeeds, ...]:
    """Studies of arms ask about all of them, in turn, have no separate rivals, and do not give up."""
    schedules = len(config.arms) or config.confirm_top
    if not schedules:
        return ()
    return tuple(
        expected_seeds(
            effect / 100,
            noise.share,
            scale=Scale.of(config.metric),
            schedules=schedules,
            rival=bool(controls.confirmed),
            seeds=config.least_and_most_seeds,
            margin=config.margin,
            futility=0.0 if config.arms else config.futility,
            in_turn=bool(config.arms),
        )
        for effect in dict.fromkeys((0.0, *effects))
    )
