"""The loop's options: each changes what it says, and none loses the exact resume."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.precision import Precision
from curriculum_ray.training.prefetch import Prefetched
from curriculum_ray.training.rates import OptimizerSpec, learning_rate
from curriculum_ray.training.spikes import SpikeGuard, StabilitySpec
from curriculum_ray.training.trainer import NonFiniteLoss, Trainer
from curriculum_ray.training.world import World
from tests.training.calls import calling

SMALL: dict[str, Any] = {
    "batch_size": 16,
    "images": 16 * 12,
    "window": 2,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64},
    "model": {"base_channels": 8},
    "schedule": {
        "version": 1,
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "linear", "full_share": 0.5},
    },
}
EVERYTHING: dict[str, Any] = {
    "precision": "bf16",
    "accumulate": 2,
    "optimizer": {"warmup_images": 32, "schedule": "cosine", "final_share": 0.1},
    "ema": {"power": {"sigma_rels": [0.05, 0.15], "every_images": 64}},
    "stability": {"spike_factor": 1.01, "spike_window": 8},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(TrainConfig().data)


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**SMALL, **changes})


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = trainer.checkpoint()
    return {
        f"{group}.{name}": value for group in state.tensors for name, value in state.tensors[group].items()
    }


def test_a_run_with_every_option_resumes_to_the_bit(tmp_path: Path, data: Dataset) -> None:
    config = _config(**EVERYTHING, images=16 * 24)
    whole, kept = Trainer(config, data), []

    def on_checkpoint(trainer: Trainer) -> None:
        kept.append(checkpoints.write(tmp_path / str(trainer.images), trainer.checkpoint()))

    train(whole, calling(on_checkpoint=on_checkpoint))
    assert whole.guard is not None
    assert whole.guard.skipped > 0, "the test needs a run that skips an update"
    expected = _weights(whole)
    assert any(name.startswith("power.1/") for name in expected)
    for path in kept:
        resumed = Trainer(config, data)
        resumed.restore(checkpoints.read(path))
        train(resumed)
        assert resumed.guard is not None
        assert resumed.guard.state_dict() == whole.guard.state_dict()
        for name, value in _weights(resumed).items():
            assert torch.equal(value, expected[name]), name


def test_accumulating_gives_the_same_draws_and_the_same_weights_within_rounding(data: Dataset) -> None:
    once, parts = Trainer(_config(), data), Trainer(_config(accumulate=4), data)
    for _ in range(3):
        once.step()
        parts.step()
    assert torch.equal(once.histogram.counts, parts.histogram.counts)
    assert torch.equal(once.sampler.last_u, parts.sampler.last_u)
    for a, b in zip(once.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


def test_parts_must_divide_a_worker_s_share(data: Dataset) -> None:
    with pytest.raises(
        ConfigError, match="accumulate must divide each worker's share of the batch, 16, but got 3"
    ):
        Trainer(_config(accumulate=3), data)


def test_bf16_stays_near_fp32_and_keeps_fp32_weights(data: Dataset) -> None:
    half, single = Trainer(_config(precision="bf16"), data), Trainer(_config(), data)
    train(half)
    train(single)
    assert all(value.dtype == torch.float32 for value in half.model.parameters())
    assert half.loss != single.loss
    assert half.loss == pytest.approx(single.loss, rel=0.05)


def test_fp16_on_a_cpu_is_refused_in_one_line(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU, but the device is cpu"):
        Trainer(_config(precision="fp16"), data)


@pytest.mark.parametrize("tf32", [True, False])
def test_what_is_said_of_tf32_can_be_read_in_every_way_that_the_compiler_reads_it(tf32: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        Precision("fp32", torch.device("cuda"), tf32)
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if tf32 else "ieee")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_the_scale_of_fp16_gradients_survives_a_resume_and_an_overflow_skips_the_update() -> None:
    precision = Precision("fp32", torch.device("cpu"))
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        precision.backward((weight * factor).sum())
        precision.unscale(optimizer)
        precision.step(optimizer)
    assert torch.allclose(weight.detach(), torch.full((2,), 0.8))
    other = Precision("fp32", torch.device("cpu"))
    other.scaler = torch.amp.GradScaler("cpu", init_scale=7.0)
    other.load_state_dict(precision.state_dict())
    assert other.scaler.get_scale() == precision.scaler.get_scale() == 512.0


def test_a_compiled_model_is_not_compiled_again_when_the_stage_changes(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo
    from torch._dynamo.utils import counters

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compile_module(self, backend="eager", **how)
    )
    torch._dynamo.reset()
    counters.clear()
    trainer = Trainer(_config(compile=True), data)
    plain = Trainer(_config(), data)
    trainer.step()
    frames = counters["stats"]["unique_graphs"]
    assert frames >= 1
    train(trainer)
    train(plain)
    assert len(trainer.stage_starts) == 3
    assert counters["stats"]["unique_graphs"] == frames
    assert trainer.loss == pytest.approx(plain.loss, rel=1e-4)
    assert set(trainer.model.state_dict()) == set(plain.model.state_dict())


def test_rates_rise_and_fall_as_they_say() -> None:
    def rate(images: int, **how: Any) -> float:
        spec = OptimizerSpec(learning_rate=1.0, warmup_images=100, **how)
        return learning_rate(spec, images, total_images=1100)

    assert [rate(50), rate(100), rate(1100)] == [0.5, 1.0, 1.0]
    assert [rate(50, schedule="cosine"), rate(100, schedule="cosine")] == [0.5, 1.0]
    assert rate(600, schedule="cosine", final_share=0.2) == pytest.approx(0.6)
    assert rate(1100, schedule="cosine", final_share=0.2) == pytest.approx(0.2)
    assert rate(350, schedule="linear") == pytest.approx(0.75)
    assert rate(1100, schedule="linear") == 0.0
    inverse = {"schedule": "inverse_sqrt", "reference_images": 200}
    assert [rate(150, **inverse), rate(200, **inverse)] == [1.0, 1.0]
    assert rate(800, **inverse) == pytest.approx(0.5)


@pytest.mark.parametrize("how", [{"schedule": "inverse_sqrt"}, {"reference_images": 5}, {"final_share": 0.5}])
def test_a_rate_setting_that_does_not_apply_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"optimizer\.(reference_images|final_share) belongs to"):
        OptimizerSpec(**how)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_rate_that_would_never_come_to_fall_is_refused(schedule: str) -> None:
    optimizer = {"schedule": schedule, "warmup_images": 2_048}
    with pytest.raises(
        ValueError, match=r"warmup_images must be less than the 2,048 images of the run where"
    ):
        TrainConfig.model_validate({"images": 2_000, "optimizer": optimizer})
    TrainConfig.model_validate({"images": 2_049, "optimizer": optimizer})
    TrainConfig.model_validate({"images": 2_000, "optimizer": {**optimizer, "schedule": "constant"}})


def test_a_guard_takes_the_windows_of_another_as_they_are() -> None:
    guard, other = (SpikeGuard(StabilitySpec(spike_factor=3.0, spike_window=8)) for _ in range(2))
    for step in range(5):
        guard.spiked(torch.tensor(1.0 + step), torch.tensor(1.0))
        other.spiked(torch.tensor(9.0), torch.tensor(9.0))
    other.load_state_dict(guard.state_dict())
    assert other.state_dict() == guard.state_dict()


def test_the_guard_skips_what_stands_out_and_lets_what_is_not_finite_stop_the_run() -> None:
    guard = SpikeGuard(StabilitySpec(spike_factor=3.0, spike_window=8))
    one = torch.tensor(1.0)
    assert not any(guard.spiked(one * 100 if step == 3 else one, one) for step in range(8))
    assert guard.spiked(4 * one, one)
    assert guard.spiked(one, 4 * one)
    assert not guard.spiked(2 * one, one)
    assert not guard.spiked(torch.tensor(math.inf), one)
    assert guard.skipped == 2
    assert all(math.isfinite(norm) for norm in guard.state_dict()["norms"])


def test_a_level_that_lasts_is_followed_and_a_new_stage_starts_anew() -> None:
    guard = SpikeGuard(StabilitySpec(spike_factor=2.0, spike_window=8))
    one = torch.tensor(1.0)
    assert not any(guard.spiked(one, one) for _ in range(8))
    skipped = [guard.spiked(one, 3 * one) for _ in range(12)]
    assert skipped == [True] * 4 + [False] * 8
    assert not any(guard.spiked(one, 30 * one, stage=1) for _ in range(8))
    other = SpikeGuard(guard.spec)
    other.load_state_dict(guard.state_dict())
    assert other.spiked(one, 100 * one, stage=1)
    assert not other.spiked(one, 100 * one, stage=2)


def test_a_window_without_a_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="spike_window is for a spike_factor, but got 16 without one"):
        StabilitySpec(spike_window=16)


def test_a_skipped_update_changes_no_weight_but_counts_its_images(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(_config(stability={"spike_factor": 2.0}), data)
    trainer.step()
    before = copy.deepcopy(trainer.model.state_dict())
    monkeypatch.setattr(SpikeGuard, "spiked", lambda *_: True)
    trainer.step()
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in before.items())
    assert trainer.images == 32


def test_weights_that_are_not_finite_never_reach_a_checkpoint(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    with torch.no_grad():
        list(trainer.model.parameters())[-1].view(-1)[0] = float("inf")
    with pytest.raises(NonFiniteLoss, match="before 0 images"):
        trainer.checkpoint()


def test_previews_do_not_disturb_the_training(data: Dataset) -> None:
    config = _config(preview={"every_images": 48})
    plain, watched, seen = Trainer(config, data), Trainer(config, data), []

    def on_preview(trainer: Trainer) -> None:
        seen.append(trainer.images)
        model = trainer.whole_model(ema=True)
        trainer.process.generate(model, torch.randn(4, 1, 8, 8), steps=2)

    train(plain)
    train(watched, calling(on_preview=on_preview))
    assert seen == [64, 128, 192]
    ours, theirs = _weights(plain), _weights(watched)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_two_ranks_take_the_same_images_and_levels_as_one(data: Dataset) -> None:
    """What a run resumed on another world size goes on with."""
    config = _config()
    one = Trainer(config, data)
    two = [Trainer(config, data, World(rank=rank, size=2)) for rank in range(2)]
    for images in (0, 16, 4 * 16):
        batch = one.batches.next(images, 16, 0, 1, torch.device("cpu"))[0]
        shares = [t.batches.next(images, 16, t.world.rank, 2, torch.device("cpu"))[0] for t in two]
        assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), batch)
        for trainer, size in ((one, 16), (two[0], 8), (two[1], 8)):
            trainer.sampler.images = images
            trainer.sampler.sample(size)
        drawn = torch.stack([trainer.sampler.last_u for trainer in two], dim=1).flatten()
        assert torch.equal(drawn, one.sampler.last_u)


def test_prefetched_batches_are_the_same_wherever_one_starts(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    ahead = Prefetched(trainer.batches, total_images=192)
    for images in (0, 16, 32, 128, 144, 160, 176):
        place = (images, 16, 0, 1, torch.device("cpu"))
        assert torch.equal(ahead.next(*place)[0], trainer.batches.next(*place)[0])
    ahead.close()


def test_an_error_of_the_source_is_raised_where_its_batch_is_asked_for() -> None:
    class Broken:
        def next(self, images: int, *_: Any) -> tuple[torch.Tensor, None]:
            if images == 16:
                raise ConfigError("shard 3 is unreadable")
            return torch.zeros(16), None

    ahead = Prefetched(Broken(), total_images=64)
    ahead.next(0, 16, 0, 1, torch.device("cpu"))
    with pytest.raises(ConfigError, match="shard 3"):
        ahead.next(16, 16, 0, 1, torch.device("cpu"))
    ahead.close()


def test_a_checkpoint_of_before_the_options_existed_is_read(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    new = trainer.checkpoint()
    later = ("precision", "tf32", "compile", "accumulate", "parallel", "preview", "stability")
    settings = {key: value for key, value in new.state["config"].items() if key not in later}
    settings["ema"] = {key: value for key, value in settings["ema"].items() if key != "power"}
    state = {key: value for key, value in new.state.items() if key not in ("scaler", "guard")}
    Trainer(_config(), data).restore(
        checkpoints.Checkpoint(tensors=new.tensors, state={**state, "config": settings})
    )
