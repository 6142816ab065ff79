"""Training on a GPU: equal seeds repeat a run to the bit, a resume goes on with it, and no step makes the host wait."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.data import Dataset, DataSpec, InMemoryBatches, load_data
from curriculum_ray.distributed.job import clear_process_state, stays_on_host
from curriculum_ray.distributed.leaks import held
from curriculum_ray.splitmix import mix
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.difficulty import ProbeSpec, train_probe
from curriculum_ray.training.loop import train, train_together
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.prefetch import Prefetched
from curriculum_ray.training.seeds import seed_step
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World
from tests.training import test_loop
from tests.training.calls import calling
from tests.training.test_gpu_steps import CASES
from tests.training.test_packed import NETWORKS, OWN

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {**test_loop.SMALL, "model": {"base_channels": 16}}
DIT: dict[str, Any] = {
    "data": {"name": "tones"},
    "model": {"kind": "dit", "depth": 2, "width": 64, "heads": 2},
}
RUNS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "without tf32": {"tf32": False},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "power-function averages": {"ema": {"power": {"sigma_rels": [0.05, 0.15], "every_images": 64}}},
    "spike guard": {"stability": {"spike_factor": 1.01, "spike_window": 8}},
    "accumulated": {"accumulate": 2, "weighting": {"kind": "edm2_uncertainty"}, "process": {"kind": "edm"}},
    "dit, bf16": {**DIT, "precision": "bf16"},
}


@cache
def _data(spec: DataSpec) -> Dataset:
    return load_data(spec)


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**SMALL, **changes})


def _trainer(config: TrainConfig, device: torch.device, batches: Any = None) -> Trainer:
    return Trainer(config, _data(config.data), World(device=device), batches)


def _tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    groups = trainer.checkpoint().tensors
    return {
        f"{group}/{name}": value.cpu() for group, found in groups.items() for name, value in found.items()
    }


def _equal(got: Trainer, wanted: Trainer) -> None:
    """The whole states are equal to the bit."""
    ours, theirs = _tensors(got), _tensors(wanted)
    assert set(ours) == set(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert (got.loss, got.stage_starts) == (wanted.loss, wanted.stage_starts)


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    """Trainers set them for the process."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def _deterministic() -> Iterator[None]:
    """Kernels that add in a fixed order: cuDNN and attention may else choose others."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_a_run_repeats_itself_and_resumes_to_the_bit(
    cuda: torch.device, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = _config(**changes)
    kept: list[Path] = []

    def on_checkpoint(trainer: Trainer) -> None:
        kept.append(checkpoints.write(tmp_path / str(trainer.images), trainer.checkpoint()))

    whole, again = _trainer(config, cuda), _trainer(config, cuda)
    train(whole, calling(on_checkpoint=on_checkpoint))
    train(again)
    _equal(again, whole)
    assert len(whole.stage_starts) > 1, "the test needs a run that changes stage"
    for path in kept:
        resumed = _trainer(config, cuda)
        resumed.restore(checkpoints.read(path))
        assert resumed.precision.state_dict() == checkpoints.read(path).state["scaler"]
        train(resumed)
        _equal(resumed, whole)


@pytest.mark.parametrize("changes", [{}, DIT], ids=["unet", "dit"])
def test_with_the_usual_kernels_a_run_repeats_itself_within_rounding(
    cuda: torch.device, changes: dict[str, Any]
) -> None:
    first, second = _trainer(_config(**changes), cuda), _trainer(_config(**changes), cuda)
    train(first)
    train(second)
    assert second.loss == pytest.approx(first.loss, rel=1e-3)
    assert second.stage_starts == first.stage_starts


def test_seeds_of_a_step_are_those_of_manual_seed(cuda: torch.device) -> None:
    seed_step(3, 1, 640, cuda)
    ours = torch.rand(4), torch.rand(4, device=cuda)
    torch.manual_seed(mix(3, 1, 640))
    assert torch.equal(torch.rand(4), ours[0])
    assert torch.equal(torch.rand(4, device=cuda), ours[1])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_fp32_and_keeps_fp32_weights(cuda: torch.device, precision: str) -> None:
    half, single = _trainer(_config(precision=precision), cuda), _trainer(_config(), cuda)
    train(half)
    train(single)
    assert all(value.dtype == torch.float32 for value in half.model.parameters())
    assert half.loss != single.loss
    assert half.loss == pytest.approx(single.loss, rel=0.05)


def test_fp16_scales_its_loss_and_an_overflow_skips_the_update(cuda: torch.device) -> None:
    trainer = _trainer(_config(precision="fp16"), cuda)
    trainer.step()
    scale = trainer.precision.scaler.get_scale()
    assert scale > 1
    trainer.precision.scaler.update(2.0**80)
    before = [value.clone() for value in trainer.parameters.values()]
    trainer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parameters.values(), strict=True))
    assert trainer.precision.scaler.get_scale() == 2.0**79


@pytest.mark.parametrize("tf32", [True, False])
def test_products_in_fp32_are_rounded_to_tf32_where_it_is_on(cuda: torch.device, tf32: bool) -> None:
    _trainer(_config(tf32=tf32), cuda)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    error = float(((a.to(cuda) @ b.to(cuda)).cpu() - a @ b).abs().max())
    # Of 512 terms of size one: 10 bits of mantissa leave errors of about 1e-2, 23 bits of about 1e-5.
    assert (error > 1e-3) is tf32


@pytest.mark.parametrize("settings", [*CASES.values(), {"precision": "fp16"}], ids=[*CASES, "fp16"])
def test_no_step_makes_the_host_wait(cuda: torch.device, settings: dict[str, Any]) -> None:
    config = TrainConfig.model_validate({"batch_size": 16, "images": 6400, "window": 50, **settings})
    trainer = _trainer(config, cuda)
    trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.images == 4 * 16


def test_no_step_of_a_pack_makes_the_host_wait(cuda: torch.device) -> None:
    schedule = {**SMALL["schedule"], "pacing": {**SMALL["schedule"]["pacing"], "patience": 50}}
    configs = [_config(seed=seed, window=50, images=6400, schedule=schedule) for seed in range(3)]
    packed = PackedTrainer(configs, _data(configs[0].data), World(device=cuda))
    packed.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            packed.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert packed.images == 4 * 16


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pack_equals_separate_runs(cuda: torch.device, network: str) -> None:
    """In full float32: rounding to TF32 differs between a batched kernel and a single one."""
    settings = {**SMALL, **NETWORKS[network], "tf32": False}
    configs = [TrainConfig.model_validate({**settings, **own}) for own in OWN]
    data = _data(configs[0].data)
    packed = PackedTrainer(configs, data, World(device=cuda))
    assert train_together(packed) == [True] * 3
    for config, member in zip(configs, packed.members, strict=True):
        single = _trainer(config, cuda)
        train(single)
        assert member.stage_starts == single.stage_starts
        assert member.loss == pytest.approx(single.loss, rel=1e-4)
        ours, theirs = _tensors(member), _tensors(single)
        for name, value in ours.items():
            torch.testing.assert_close(
                value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_a_compiled_model_trains_alike_and_is_not_compiled_again_at_a_new_stage(cuda: torch.device) -> None:
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    compiled, plain = _trainer(_config(compile=True), cuda), _trainer(_config(), cuda)
    compiled.step()
    frames = counters["stats"]["unique_graphs"]
    assert frames >= 1
    train(compiled)
    train(plain)
    assert len(compiled.stage_starts) > 1
    assert counters["stats"]["unique_graphs"] == frames
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-2)
    torch._dynamo.reset()


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_data_in_the_hosts_memory_train_as_data_on_the_gpu_do(cuda: torch.device, name: str) -> None:
    config = _config(data={"name": name})
    data = _data(config.data)
    assert not stays_on_host(data, cuda)
    ahead = Prefetched(InMemoryBatches(data, config.seed, CPU, True), config.total_images)
    there, here = _trainer(config, cuda), _trainer(config, cuda, ahead)
    for images in (0, 16, 64, 80):
        ours, theirs = (t.batches.next(images, 16, 0, 1, cuda) for t in (here, there))
        assert ours[0].device.type == cuda.type
        assert torch.equal(ours[0], theirs[0])
        assert ours[1] is not None
        assert torch.equal(ours[1], theirs[1])
    train(there)
    train(here)
    ahead.close()
    _equal(here, there)


def test_data_of_over_a_quarter_of_what_is_free_stay_on_the_host(cuda: torch.device) -> None:
    free, _ = torch.cuda.mem_get_info(cuda)
    rows = free // 4 // 4 // 2**20
    # Expanded items take no memory.
    small, large = (
        Dataset("d", torch.zeros(1, 1).expand(n, 2**20)) for n in (rows * 9 // 10, rows * 11 // 10)
    )
    assert not stays_on_host(small, cuda)
    assert stays_on_host(large, cuda)


def test_averages_follow_the_weights_as_on_a_cpu(cuda: torch.device) -> None:
    config = _config(tf32=False, ema={"half_life_images": 50, "ramp_up": 0.5, "power": {"every_images": 64}})
    ours, theirs = _trainer(config, cuda), _trainer(config, CPU)
    for trainer in (ours, theirs):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for step in range(1, 6):
                for value in trainer.model.parameters():
                    value.copy_(torch.randn(value.shape, generator=generator))
                trainer.ema.update(16 * step, 16)
                trainer.power.update(16 * step, 16)  # type: ignore[union-attr]
    for group in ("ema", "power"):
        got, wanted = (trainer.checkpoint().tensors[group] for trainer in (ours, theirs))
        for name, value in got.items():
            torch.testing.assert_close(value.cpu(), wanted[name], rtol=1e-5, atol=1e-6)


def test_the_heldout_loss_is_that_of_a_cpu(cuda: torch.device) -> None:
    found = []
    for device in (cuda, CPU):
        trainer = _trainer(_config(tf32=False), device)
        assert trainer.heldout is not None
        found.append(trainer.heldout.measure(trainer))
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_probe_begins_as_on_a_cpu_and_learns(cuda: torch.device) -> None:
    spec = ProbeSpec.model_validate(
        {"intervals": 3, "steps": 20, "batch_size": 16, "watched": 8, "gradient_batches": 2,
         "gradient_batch_size": 4, "gradient_points": 1, "model": {"base_channels": 8}}
    )  # fmt: skip
    data = _data(spec.data)
    ours, theirs = (train_probe(spec, data, 0, gradients=True, device=device) for device in (cuda, CPU))
    torch.testing.assert_close(ours.losses[0], theirs.losses[0], rtol=1e-2, atol=1e-3)
    assert ours.losses.isfinite().all()
    assert len(ours.gradients) == 1


def test_a_run_that_has_ended_leaves_no_memory_behind(cuda: torch.device) -> None:
    def one() -> None:
        train(_trainer(_config(), cuda))

    one()
    clear_process_state()
    before, reserved = torch.cuda.memory_allocated(cuda), torch.cuda.memory_reserved(cuda)
    one()
    clear_process_state()
    assert torch.cuda.memory_allocated(cuda) == before
    assert torch.cuda.memory_reserved(cuda) <= reserved


def test_memory_on_the_gpu_counts_as_held(cuda: torch.device) -> None:
    gc.collect()
    before = held()
    block = torch.empty(2**28, dtype=torch.uint8, device=cuda)
    assert held() - before > 2**27
    del block
