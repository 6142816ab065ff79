"""The cost of a study, before anything is spent: calibration, estimate, and pictures of its schedules."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from curriculum_ray.config import parse
from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.data import Dataset
from curriculum_ray.diffusion import build_process
from curriculum_ray.runs.config import RunConfig
from tuning.evidence.records import Control, Role
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tuning.figures.theme import Theme

__all__ = [
    "Calibration",
    "Estimate",
    "Speed",
    "Work",
    "calibrate",
    "density",
    "draw_schedules",
    "estimate",
    "evaluations",
    "sampled",
    "sketch",
]

_SHADES = " ░▒▓█"


@dataclass(frozen=True)
class Work:
    """What a trial has to do."""

    images: int
    evaluations: float
    """The one at its end, and its previews by their numbers of samples."""


@dataclass(frozen=True)
class Speed:
    """How fast trials run, as many at a time as there are slots."""

    seconds_per_image: float
    seconds_per_evaluation: float

    def seconds(self, work: Work) -> float:
        """How long a trial takes."""
        return work.images * self.seconds_per_image + work.evaluations * self.seconds_per_evaluation


@dataclass(frozen=True)
class Calibration:
    """Times of a short run of the study's model on this machine."""

    device: str
    seconds_per_step: float
    """One optimiser step on a trial's whole batch by one worker; for packed trials, their share of the pack's step."""
    seconds_per_evaluation: float
    """Generating and scoring all samples, extrapolated from a part of them."""
    packing_gain: float | None = None
    """Steps per second of all packed trials over those of as many trials one after another; None without a pack."""

    def speed(self, batch_size: int, workers: int) -> Speed:
        """The speed of trials with so many workers, which share the steps without overhead."""
        return Speed(self.seconds_per_step / workers / batch_size, self.seconds_per_evaluation)


@dataclass(frozen=True)
class Estimate:
    """The expected cost of the study."""

    trials: dict[str, int]
    """The maximum number of trials of each phase."""
    trial_seconds: float
    """One trial at the full budget, without previews."""
    work_seconds: float
    """All trials one after another."""
    wall_seconds: float
    """All trials, as many at a time as fit, without start-up, which takes about half a minute."""
    least_wall_seconds: float
    """The same where the least number of fresh seeds decides."""
    concurrent: int
    """Trials at a time, in packs if they are packed."""
    gpu_hours: float | None
    """GPUs held times hours, if GPUs are requested."""


def calibrate(run: RunConfig, data: Dataset, pack: int = 1, steps: int = 30, share: int = 8) -> Calibration:
    """Train `steps` steps in this process, without Ray, and evaluate 1/`share` of the samples.

    pack: how many runs a worker will train at a time; if more than 1, the steps of a pack are timed too.
    """
    from curriculum_ray.evaluation import prepare
    from curriculum_ray.training.packed import PackedTrainer
    from curriculum_ray.training.trainer import Trainer
    from curriculum_ray.training.world import World

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = run.model_copy(update={"schedule": run.schedule.without_curriculum()}).train
    trainer = Trainer(plain, data, World(device=device))

    def per_step(step: Callable[[], None], steps: int) -> float:
        # The first steps allocate memory that later ones reuse.
        for _ in range(3):
            step()

        def several() -> None:
            for _ in range(steps):
                step()

        return _timed(several, device) / steps

    seconds, gain = per_step(trainer.step, steps), None
    if pack > 1:
        seeds = [plain.model_copy(update={"seed": plain.seed + place}) for place in range(pack)]
        packed = PackedTrainer(seeds, data, World(device=device))
        alone, seconds = seconds, per_step(packed.step, max(1, steps // pack)) / pack
        gain = alone / seconds
    assert run.evaluation is not None
    few = max(64, run.evaluation.num_samples // share)
    evaluator = prepare(run.evaluation.model_copy(update={"num_samples": few}), data, trainer.process)

    def evaluate() -> None:
        evaluator.evaluate(trainer.process, trainer.ema.model, trainer.conditioning, device=device)

    evaluate()  # The features of the data are extracted once per process.
    evaluation = _timed(evaluate, device) * run.evaluation.num_samples / few
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return Calibration(name, seconds, evaluation, gain)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def estimate(
    config: StudyConfig, rivals: int, found: Calibration, slots: int, gpus: float | None
) -> Estimate:
    """Extrapolate a calibration to the study, assuming that the workers of a trial share its steps without overhead.

    slots: how many trials, or packs of them, run at a time; with `gpus`, as many as fit. A trial that a look would stop
    counts in full.
    """
    workers = config.resources.workers[1]
    trials = config.phases(rivals)
    step = found.seconds_per_step / workers

    def seconds(images: int, role: Role, control: Control | None = None) -> float:
        scored = evaluations(config, images, role, control)
        return -(-images // config.run.batch_size) * step + scored * found.seconds_per_evaluation

    full = config.run.total_images
    *lower, _ = config.halving.budgets(full)
    rungs = sum(seconds(images, "rung") for images in lower) / max(1, len(lower))
    work = (
        seconds(full, "control", "uniform")
        + (trials["controls"] - 1 + trials["twins of the best"]) * seconds(full, "control")
        + trials["smaller budgets"] * rungs
        + trials["searched"] * seconds(full, "searched")
        + trials["confirmations"] * seconds(full, "confirmation")
    )
    per_slot = workers * config.resources.gpus_per_worker
    if gpus is not None:
        slots = max(1, int(gpus / per_slot))
    slots = min(slots, -(-max(trials.values()) // config.pack))
    hours = work * per_slot / 3600 if gpus is not None else None
    trial = config.run.total_steps * step + found.seconds_per_evaluation
    least, most = config.least_and_most_seeds
    saved = trials["confirmations"] * (most - least) / most * seconds(full, "confirmation")
    return Estimate(trials, trial, work, work / slots, (work - saved) / slots, slots * config.pack, hours)


def evaluations(config: StudyConfig, images: int, role: Role, control: Control | None) -> float:
    """What a trial's evaluation and previews cost, in evaluations of the study."""
    settings = {**config.run.model_dump(mode="json"), "images": images}
    run = parse(RunConfig, config.with_previews(settings, role, control), "run")
    if run.preview is None:
        return 1.0
    assert run.preview_steps is not None
    assert run.evaluation is not None
    # There is also one at the end of the run.
    previews = -(-run.total_steps // run.preview_steps)
    return 1 + previews * run.preview.num_samples / run.evaluation.num_samples


def sampled(config: StudyConfig, space: SearchSpace, count: int) -> list[CurriculumSchedule]:
    """The first start points of the space, then random points, as schedules."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    for point in space.start[: count // 2]:
        study.enqueue_trial(point)
    base, result = config.run.model_dump(mode="json"), []
    for _ in range(count):
        trial = study.ask()
        SpaceFunction(space)(trial)
        settings = space.apply(base, trial.params)
        result.append(CurriculumSchedule.from_dict(settings["schedule"], f"space {space.name}"))
    return result


def density(schedule: CurriculumSchedule, run: RunConfig, rows: int = 32, columns: int = 64) -> torch.Tensor:
    """Relative density of u (row 0 is the noisiest) over the budget, (rows, columns), 1 is uniform.

    A plateau's stages depend on losses, which are not known yet: here the loss is noise around a constant, on which a
    stage lasts about twice its patience. Importance sampling, which depends on losses too, has little effect on it.
    """
    process = build_process(run.process, run.weighting)
    sampler = TimestepSampler(
        schedule,
        levels=process.levels,
        total_images=run.total_images,
        rank=0,
        world_size=1,
        window=run.window,
    )
    noise = torch.Generator().manual_seed(0)
    edges = torch.linspace(0, 1, rows + 1, dtype=torch.float64)
    result = torch.zeros(rows, columns)
    for step in range(run.total_steps):
        column = step * columns // run.total_steps
        if not result[:, column].any():
            result[:, column] = sampler.density(edges).flip(0).float()
        sampler.sample(run.batch_size)
        assert sampler.weights is None or len(sampler.weights) == run.batch_size
        sampler.update(1 + 0.05 * torch.randn(run.batch_size, generator=noise))
    return result


def sketch(values: torch.Tensor, rows: int = 6, columns: int = 48) -> list[str]:
    """A density as lines of text, darker where more is drawn; the top is noise, training goes to the right."""
    small = torch.nn.functional.adaptive_avg_pool2d(values[None], (rows, columns))[0]
    steps = (small / small.max() * (len(_SHADES) - 1)).round().long()
    return ["".join(_SHADES[shade] for shade in row) for row in steps.tolist()]


def draw_schedules(
    schedules: list[CurriculumSchedule], densities: list[torch.Tensor], images: int, theme: Theme
) -> Figure:
    """Active-set heat maps, one below the other: u over images seen, darker where more is drawn."""
    from tuning.figures.theme import colormap, dress, new_panels

    figure, panels = new_panels(len(schedules), 1.9, theme, 1, width=7.5)
    for axes, schedule, values in zip(panels, schedules, densities, strict=True):
        axes.imshow(values, aspect="auto", cmap=colormap(theme.density), vmin=0, extent=(0, images, 0, 1))
        dress(axes, theme, textwrap.fill(schedule.describe(), 90))
        axes.set_ylabel("u (1 is noise)")
    panels[-1].set_xlabel("images seen")
    return figure
