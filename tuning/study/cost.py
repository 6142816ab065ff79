"""The cost of a study, before anything is spent: its trials, their arithmetic, and, from a calibration, their time."""

from __future__ import annotations

from dataclasses import dataclass

from curriculum_ray.config import parse
from curriculum_ray.runs.config import RunConfig
from tuning.evidence.records import Control, Role
from tuning.study.calibration import Calibration
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls

__all__ = ["Estimate", "estimate", "evaluations"]


@dataclass(frozen=True)
class Estimate:
    """The expected cost of the study; None where nothing was measured, or asked for."""

    trials: dict[str, int]
    """The maximum number of trials of each phase."""
    concurrent: int
    """Trials at a time, in packs if they are packed."""
    flops: float | None
    """Operations of the network in all trials; None where they cannot be counted."""
    trial_seconds: float | None = None
    """One trial at the full budget, without previews; of a pack, its share of the time that the pack takes."""
    work_seconds: float | None = None
    """All trials one after another."""
    wall_seconds: float | None = None
    """All trials, as many at a time as fit, without start-up, which takes about half a minute."""
    least_wall_seconds: float | None = None
    """The same where the least number of fresh seeds decides."""
    worker_hours: float | None = None
    """Workers that train times hours: those that wait at the end of a phase, and start-up, are not counted."""
    gpu_hours: float | None = None
    """The same for GPUs, if the study is for them."""
    price: float | None = None
    """The worker-hours times the price of one."""
    least_price: float | None = None
    """The same where the least number of fresh seeds decides."""

    def flops_hours(self, sustained: float) -> float:
        """The hours that one device takes which does `sustained` operations of the network a second."""
        assert self.flops is not None
        return self.flops / sustained / 3600


def estimate(
    config: StudyConfig,
    controls: Controls,
    found: Calibration | None,
    slots: int,
    for_gpu: bool = False,
    price: float | None = None,
    flops: tuple[int, int] | None = None,
) -> Estimate:
    """Extrapolate a calibration to the study, assuming that the workers of a trial do not wait for each other.

    slots: how many trials, or packs of them, run at a time. price: of one worker-hour.
    flops: operations of a step on the whole batch and of an evaluation. A trial that a look would stop counts in full.
    """
    trials = config.phases(controls)
    workers, share = config.resources.workers[1], config.resources.gpus_per_worker
    slots = min(slots, -(-max(trials.values()) // config.pack))
    counted = None if flops is None else _work(config, trials, *flops)[1]
    if found is None:
        return Estimate(trials, slots * config.pack, counted)
    step, evaluation = found.seconds_per_step, found.seconds_per_evaluation
    least, most = _work(config, trials, step, evaluation)
    hours = most * workers / 3600
    return Estimate(
        trials,
        slots * config.pack,
        counted,
        trial_seconds=config.run.total_steps * step + evaluation,
        work_seconds=most,
        wall_seconds=most / slots,
        least_wall_seconds=least / slots,
        worker_hours=hours,
        gpu_hours=hours * share if for_gpu else None,
        price=None if price is None else hours * price,
        least_price=None if price is None else hours * price * least / most,
    )


def _work(config: StudyConfig, trials: dict[str, int], step: float, evaluation: float) -> tuple[float, float]:
    """What all trials cost if a step and an evaluation cost this much: with the fewest fresh seeds, and with most."""

    def cost(images: int, role: Role, control: Control | None = None) -> float:
        scored = evaluations(config, images, role, control)
        return -(-images // config.run.batch_size) * step + scored * evaluation

    full = config.run.total_images
    *lower, _ = zip(config.halving.entering(config.trials), config.halving.budgets(full), strict=True)
    rungs = sum(many * cost(images, "rung") for many, images in lower)
    work = (
        cost(full, "control", "uniform")
        + (trials["controls"] - 1 + trials["twins of the best"]) * cost(full, "control")
        + (rungs if trials["smaller budgets"] else 0.0)
        + trials["searched"] * cost(full, "searched")
        + trials["confirmations"] * cost(full, "confirmation")
    )
    least, most = config.least_and_most_seeds
    return work - trials["confirmations"] * (most - least) / most * cost(full, "confirmation"), work


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
