"""`plan` counts every trial and everything that is scored, and says whether packing pays on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from curriculum_ray.data import Dataset, load_data
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation.spec import EvaluationSpec
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.footprint import footprint
from curriculum_ray.training.loop import Trainer
from curriculum_ray.training.packed import PackedTrainer
from tuning.study import calibration
from tuning.study.calibration import Calibration, Unmeasured, calibrate, evaluation_flops, measuring_device
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.cost import Estimate, estimate
from tuning.study.cost_lines import cost_lines

FOUND = Calibration("CPU", seconds_per_step=0.5, seconds_per_evaluation=100.0)
# 40 steps of 20 s in all; log lines, and so previews, every 10 steps.
RUN: dict[str, Any] = {"batch_size": 10, "images": 400, "log_every_images": 100}


def _calibrated(cpus: int = 1, **how: int) -> Calibration:
    """The calibration of a small network, on the CPU."""
    evaluation = {"num_samples": 64, "steps": 1}
    run = RunConfig.model_validate({**RUN, "model": {"base_channels": 8}, "evaluation": evaluation})
    data = load_data(run.data)
    network = footprint(run.model, data.shape)
    return calibrate(run, data, network, measuring_device(False), ResourceSpec(cpus_per_worker=cpus), **how)


def _work(**changes: Any) -> float:
    config = StudyConfig.model_validate({"run": RUN, "trials": 4, "confirm_seeds": 2, **changes})
    work = estimate(config, Controls(), FOUND, 1).work_seconds
    assert work is not None
    return work


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


def test_two_objectives_score_uniform_sampling_and_every_searched_trial() -> None:
    assert _work(sampler="nsgaii", previews=4) == 11 * 120 + (1 + 4 + 4) * 100


def test_smaller_budgets_cost_their_steps_and_an_evaluation_each() -> None:
    # Four at half the budget, of which two go on.
    halving = {"rule": "compressed", "reduction": 2, "rungs": 1}
    assert _work(halving=halving) == 9 * 120 + 4 * 110
    # Four at a quarter, two of them at half, one at the full budget.
    assert _work(halving={**halving, "rungs": 2}) == 8 * 120 + 4 * 105 + 2 * 110


def test_packs_go_on_beside_each_other_and_hold_a_gpu_together() -> None:
    config = StudyConfig.model_validate({"run": RUN, "trials": 12, "pack": 4})
    cost = estimate(config, Controls(), FOUND, 2, for_gpu=True)
    assert cost.concurrent == 8
    assert cost.work_seconds is not None
    assert cost.wall_seconds == cost.work_seconds / 2
    assert cost.gpu_hours == cost.work_seconds / 3600


def test_the_price_is_that_of_the_workers_that_train() -> None:
    resources = {"num_workers": 2}
    config = StudyConfig.model_validate({"run": RUN, "trials": 4, "resources": resources, "confirm_top": 0})
    cost = estimate(config, Controls(), FOUND, 1, price=2.5)
    # Uniform, four searched, two twins, of 120 s each; two workers.
    assert cost.price == cost.least_price == pytest.approx(2.5 * 7 * 120 * 2 / 3600)
    assert cost.gpu_hours is None


def test_operations_are_counted_like_seconds() -> None:
    config = StudyConfig.model_validate({"run": RUN, "trials": 4, "confirm_seeds": 2})
    assert estimate(config, Controls(), None, 1, flops=(5, 1000)).flops == 10 * _work()


def test_without_a_gpu_a_study_for_gpus_has_no_time_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unmeasured) as raised:
        measuring_device(for_gpu=True)
    cost = Estimate({"searched": 3}, 2, flops=1.8e18)
    lines = cost_lines(raised.value, cost, 400, price=2.0)
    assert lines[0].startswith("time: unknown: this machine has no GPU")
    assert "1.8e+18 operations of the network: 5 hours of a GPU that sustains 100 TFLOP/s" in lines[1]
    assert lines[2] == "cost: unknown, as the time is"


@pytest.mark.slow
def test_of_a_large_transformer_less_than_a_step_is_measured() -> None:
    config = StudyConfig.model_validate({"run": {"model": "dit-XL/2", "batch_size": 256}})
    data, cpu = load_data(config.run.data), measuring_device(False)
    wide = Dataset("latents", torch.zeros(4, 4, 32, 32))
    network = footprint(config.run.model, wide.shape)
    part = calibration.part_of_a_step(config.run.train, wide, network, cpu)
    assert part.words == "2 of 256 images of a worker's step, 2 of 28 blocks"
    assert part.config.batch_size == 2
    # Almost all operations are the blocks'.
    assert part.share == pytest.approx(2 / 256 * 2 / 28, rel=0.02)
    whole = calibration.part_of_a_step(RunConfig().train, data, footprint(RunConfig().model, data.shape), cpu)
    assert (whole.share, whole.words) == (1, None)


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

    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Trainer, "step", taking(1.0))
    monkeypatch.setattr(PackedTrainer, "step", taking(1.25))
    alone = _calibrated(steps=4)
    assert (alone.seconds_per_step, alone.packing_gain) == (1.0, None)
    packed = _calibrated(pack=2, steps=4)
    assert (packed.seconds_per_step, packed.packing_gain) == (0.625, 1.6)


def _by_operations(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], seconds: float, pack: int = 1
) -> Calibration:
    """The calibration on a clock by which training on an image takes `seconds`, and nothing else any time.

    An image takes a part of a network the part of its operations, and in a pack a tenth of its time alone.
    """
    now, whole = 0.0, 0

    def take(trainer: Trainer, share: float = 1.0) -> None:
        nonlocal now
        its = footprint(trainer.config.model, data.shape).train_flops
        assert its is not None
        now += share * trainer.config.batch_size * seconds * its / whole

    def take_together(pack: PackedTrainer) -> None:
        for member in pack.members:
            take(member, 0.1)

    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now)
    monkeypatch.setattr(Trainer, "step", take)
    monkeypatch.setattr(PackedTrainer, "step", take_together)
    run = RunConfig.model_validate({**RUN, "model": model, "evaluation": {"num_samples": 640, "steps": 3}})
    data = load_data(run.data)
    network = footprint(run.model, data.shape)
    assert network.train_flops is not None
    whole = network.train_flops
    return calibrate(run, data, network, measuring_device(False), ResourceSpec(), pack)


def _expected_evaluation(model: dict[str, Any], seconds: float) -> float:
    """Seconds to generate the 640 samples of `_by_operations` in 3 steps, the time of training on an image known."""
    run = RunConfig.model_validate({**RUN, "model": model})
    network = footprint(run.model, load_data(run.data).shape)
    assert network.train_flops is not None
    assert network.sample_flops is not None
    return 640 * 3 * seconds * network.sample_flops / network.train_flops


def test_an_evaluation_takes_the_same_by_a_whole_step_and_by_a_part_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = {"base_channels": 8}
    whole = _by_operations(monkeypatch, model, 2.0)
    flops = footprint(RunConfig.model_validate({"model": model}).model, (1, 8, 8)).train_flops
    assert flops is not None
    monkeypatch.setitem(calibration._MOST_FLOPS, "cpu", 2.5 * flops)
    part = _by_operations(monkeypatch, model, 2.0)
    assert (whole.share, part.share) == (None, "2 of 10 images of a worker's step")
    assert whole.seconds_per_step == part.seconds_per_step == pytest.approx(20)
    expected = pytest.approx(_expected_evaluation(model, 2.0))
    assert whole.seconds_per_evaluation == expected
    assert part.seconds_per_evaluation == expected


def test_an_evaluation_takes_the_same_by_some_blocks_of_a_transformer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that takes little time, though the blocks that are there could be timed: they take less."""
    model = {"kind": "dit", "size": "S/4", "depth": 8, "width": 64, "heads": 2}
    monkeypatch.setitem(calibration._MOST_PARAMETERS, "cpu", 300_000)
    found = _by_operations(monkeypatch, model, 0.001)
    assert found.share == "10 of 10 images of a worker's step, 2 of 8 blocks"
    assert found.seconds_per_step == pytest.approx(0.01)
    assert found.seconds_per_evaluation == pytest.approx(_expected_evaluation(model, 0.001))


def test_an_evaluation_takes_the_same_in_a_pack_whose_steps_are_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its trials generate their samples one after another, each by itself."""
    model = {"base_channels": 8}
    found = _by_operations(monkeypatch, model, 2.0, pack=2)
    assert (found.seconds_per_step, found.packing_gain) == (pytest.approx(2), pytest.approx(10))
    assert found.seconds_per_evaluation == pytest.approx(_expected_evaluation(model, 2.0))


@pytest.mark.parametrize(
    ("sampler", "guidance", "calls"),
    [("ddim", 1.0, 1), ("ddim", 2.0, 2), ("ddim", (1.0, 2.0, 4.0), 5), ("heun", (2.0, 1.0), 6)],
)
def test_the_operations_of_guided_samples_are_those_of_two_calls_a_step_at_each_scale(
    sampler: Any, guidance: float | tuple[float, ...], calls: int
) -> None:
    run = RunConfig.model_validate({**RUN, "model": {"base_channels": 8}})
    network = footprint(run.model, (1, 8, 8))
    assert network.sample_flops is not None
    spec = EvaluationSpec(num_samples=640, steps=3, sampler=sampler, guidance=guidance)
    assert evaluation_flops(spec, network) == 640 * 3 * calls * network.sample_flops


@pytest.mark.parametrize(("had", "said"), [(0.95, False), (0.45, True), (None, False)])
def test_a_busy_machine_is_said(had: float | None, said: bool) -> None:
    found = replace(FOUND, on_a_core=had)
    config = StudyConfig.model_validate({"run": RUN, "trials": 4, "confirm_seeds": 2})
    lines = cost_lines(found, estimate(config, Controls(), found, 1), 400)
    assert any("steps had a core for 45% of this time" in line for line in lines) == said


def test_the_share_of_time_on_a_core_is_that_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps that wait as long as they compute, half of the time is spent on a core."""
    wall = core = 0.0

    def step(_: object) -> None:
        nonlocal wall, core
        wall, core = wall + 2.0, core + 1.0

    monkeypatch.setattr(calibration.time, "perf_counter", lambda: wall)
    monkeypatch.setattr(calibration.time, "thread_time", lambda: core)
    monkeypatch.setattr(Trainer, "step", step)
    found = _calibrated(steps=3)
    assert (found.seconds_per_step, found.on_a_core) == (2.0, 0.5)


@pytest.mark.parametrize("cpus", [1, 3])
def test_steps_are_measured_on_as_many_threads_as_a_worker_has(
    cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, seen = torch.get_num_threads(), set()
    monkeypatch.setattr(Trainer, "step", lambda _: seen.add(torch.get_num_threads()))
    _calibrated(cpus, steps=1)
    assert seen == {cpus}
    assert torch.get_num_threads() == before
