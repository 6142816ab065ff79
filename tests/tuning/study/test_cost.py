"""`plan` counts every trial and everything that is scored, and says whether packing pays on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from curriculum_ray.data import load_data
from curriculum_ray.training.loop import Trainer
from curriculum_ray.training.packed import PackedTrainer
from tuning.study import cost
from tuning.study.config import StudyConfig
from tuning.study.cost import Calibration, calibrate, estimate

FOUND = Calibration("CPU", seconds_per_step=0.5, seconds_per_evaluation=100.0)
# 40 steps of 20 s in all; log lines, and so previews, every 10 steps.
RUN: dict[str, Any] = {"batch_size": 10, "images": 400, "log_every_images": 100}


def _work(**changes: Any) -> float:
    config = StudyConfig.model_validate({"run": RUN, "trials": 4, "confirm_seeds": 2, **changes})
    return estimate(config, 0, FOUND, 1, None).work_seconds


def test_a_plain_study_is_its_trials_times_their_cost() -> None:
    # Uniform, four searched, two twins, two arms of two seeds.
    assert _work() == 11 * 120


def test_previews_of_confirmations_are_counted() -> None:
    # Four of 500 of 2,000 samples in each of four confirmations: an evaluation more.
    assert _work(previews=4) == 11 * 120 + 4 * 100


def test_the_looks_of_after_last_stage_are_counted() -> None:
    halving = {"rule": "after_last_stage", "rungs": 1, "num_samples": 1000}
    # One look, and the end of the run, of half an evaluation each in four searched trials.
    assert _work(halving=halving) == 11 * 120 + 4 * 100


def test_two_aims_score_uniform_sampling_and_every_searched_trial() -> None:
    assert _work(sampler="nsgaii", previews=4) == 11 * 120 + (1 + 4 + 4) * 100


def test_smaller_budgets_cost_their_steps_and_an_evaluation_each() -> None:
    # Four at half the budget, of which two go on.
    halving = {"rule": "compressed", "reduction": 2, "rungs": 1}
    assert _work(halving=halving) == 9 * 120 + 4 * 110


def test_packs_go_on_beside_each_other_and_hold_a_gpu_together() -> None:
    config = StudyConfig.model_validate({"run": RUN, "trials": 12, "pack": 4})
    cost = estimate(config, 0, FOUND, 1, 2.0)
    assert cost.concurrent == 8
    assert cost.wall_seconds == cost.work_seconds / 2
    assert cost.gpu_hours == cost.work_seconds / 3600


def test_the_gain_of_a_pack_is_its_steps_a_second_over_those_of_single_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock by which a run's step takes one second, a pack's step of two runs 1.25, and nothing else any time."""
    now = 0.0

    def taking(seconds: float) -> Callable[[object], None]:
        def step(_: object) -> None:
            nonlocal now
            now += seconds

        return step

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Trainer, "step", taking(1.0))
    monkeypatch.setattr(PackedTrainer, "step", taking(1.25))
    config = StudyConfig.model_validate(
        {"run": {**RUN, "model": {"base_channels": 8}, "evaluation": {"num_samples": 64, "steps": 1}}}
    )
    data = load_data(config.run.data)
    alone = calibrate(config.run, data, steps=4)
    assert (alone.seconds_per_step, alone.packing_gain) == (1.0, None)
    packed = calibrate(config.run, data, pack=2, steps=4)
    assert (packed.seconds_per_step, packed.packing_gain) == (0.625, 1.6)
