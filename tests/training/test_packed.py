"""A pack is its runs: each trains, stops, fails and resumes as it would on its own."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.hooks import End, Hooks
from curriculum_ray.training.loop import train, train_together
from curriculum_ray.training.packed import PackedTrainer, pack_key
from curriculum_ray.training.trainer import LogLine, NonFiniteLoss, Trainer
from curriculum_ray.training.world import World
from tests.training.calls import calling

SMALL: dict[str, Any] = {
    "batch_size": 16,
    "images": 16 * 12,
    "window": 1,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64},
}
# Two channels in a group: the bias before a norm over one channel has no gradient but rounding, which Adam enlarges.
UNET = {"data": {"name": "digits"}, "model": {"base_channels": 16, "channel_mult": [1, 1]}}
NETWORKS: dict[str, dict[str, Any]] = {
    "unet with classes": UNET,
    "unet with captions": {
        "data": {"name": "shapes", "image_size": 16, "conditioning": "text"},
        "model": {"base_channels": 16, "channel_mult": [1, 1, 1], "label_dropout": 0.4},
    },
    "mlp": {"data": {"name": "mixture2d"}, "model": {"kind": "mlp", "width": 16, "depth": 2}},
    "dit": {"data": {"name": "tones"}, "model": {"kind": "dit", "depth": 2, "width": 16, "heads": 2}},
}
PLATEAU = {
    "version": 1,
    "clusters": {"by": "uniform", "count": 3},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience": 1},
}
# Everything that may differ differs somewhere.
OWN: list[dict[str, Any]] = [
    {"schedule": PLATEAU, "seed": 1},
    {
        "schedule": {**PLATEAU, "order": {"direction": "hard_to_easy"}, "base": {"kind": "logit_normal"}},
        "seed": 2,
        "weighting": {"kind": "min_snr"},
        "optimizer": {
            "learning_rate": 1e-3,
            "weight_decay": 0.1,
            "clip_grad_norm": 0.1,
            "schedule": "cosine",
            "warmup_images": 160,
        },
    },
    {
        "schedule": {**PLATEAU, "pacing": {"rule": "linear", "full_share": 0.5}},
        "seed": 3,
        "weighting": {"kind": "edm2_uncertainty", "channels": 8},
        "process": {"kind": "flow"},
        "ema": {"half_life_images": 50, "ramp_up": 0.5, "power": {"every_images": 64}},
    },
]
# Weights of their own, and a base that changes.
WEIGHING: list[dict[str, Any]] = [
    {"schedule": {"version": 1, "base": {"kind": "speed"}}, "seed": 1, "weighting": {"kind": "min_snr"}},
    {
        "schedule": {
            "version": 1,
            "base": {"kind": "changing", "at_share": 0.25, "blend_share": 0.5},
            "importance": {"rule": "gradient_norm", "bins": 4, "history": 1},
        },
        "seed": 2,
    },
]


def _configs(network: dict[str, Any] = UNET, **changes: Any) -> list[TrainConfig]:
    return [TrainConfig.model_validate({**SMALL, **network, **own, **changes}) for own in OWN]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(_configs()[0].data)


def _logging(lines: list[LogLine]) -> Hooks:
    return calling(on_log=lambda line: bool(lines.append(line)))


def _close(got: Trainer, wanted: Trainer, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """The whole states are equal, tensors within rounding and the rest exactly."""
    ours, theirs = got.checkpoint(), wanted.checkpoint()
    assert set(ours.tensors) == set(theirs.tensors)
    for group in ours.tensors:
        assert set(ours.tensors[group]) == set(theirs.tensors[group])
        for name, value in ours.tensors[group].items():
            torch.testing.assert_close(
                value, theirs.tensors[group][name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert got.stage_starts == wanted.stage_starts
    assert got.images == wanted.images
    assert got.loss == (None if wanted.loss is None else pytest.approx(wanted.loss, rel=rtol))


@pytest.mark.parametrize(
    "network", [pytest.param("unet with captions", marks=pytest.mark.slow), "unet with classes", "mlp", "dit"]
)
def test_a_pack_equals_separate_runs(network: str) -> None:
    configs = _configs(NETWORKS[network])
    data = load_data(configs[0].data)
    packed = PackedTrainer(configs, data)
    logs: list[list[LogLine]] = [[], [], []]
    assert train_together(packed, [_logging(log) for log in logs]) == [True] * 3
    stages = set()
    for config, member, log in zip(configs, packed.members, logs, strict=True):
        single, lines = Trainer(config, data), list[LogLine]()
        train(single, _logging(lines))
        assert [line.images for line in log] == [line.images for line in lines]
        assert [line.stage for line in log] == [line.stage for line in lines]
        assert [line.loss for line in log] == pytest.approx([line.loss for line in lines], rel=1e-4)
        _close(member, single)
        stages.add(tuple(images for images, _ in member.stage_starts))
    assert len(stages) > 1, "the test needs runs that change stage at different times"


def test_the_runs_of_a_pack_share_the_data_and_see_it_in_their_own_order(data: Dataset) -> None:
    configs = _configs(data={"name": "digits", "flip": True, "crop": 1})
    packed = PackedTrainer(configs, data)
    cpu, seen = torch.device("cpu"), list[torch.Tensor]()
    for config, member in zip(configs, packed.members, strict=True):
        single = Trainer(config, data)
        for images in (0, 16, 10 * len(data)):
            ours, theirs = (each.batches.next(images, 16, 0, 1, cpu) for each in (member, single))
            assert torch.equal(ours[0], theirs[0])
            assert ours[1] is not None
            assert theirs[1] is not None
            assert torch.equal(ours[1], theirs[1])
            seen.append(ours[0])
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


def test_a_pack_multiplies_by_the_weights_of_each_schedule_as_separate_runs_do(data: Dataset) -> None:
    configs = [TrainConfig.model_validate({**SMALL, **UNET, **own}) for own in WEIGHING]
    packed = PackedTrainer(configs, data)
    assert train_together(packed) == [True] * 2
    for config, member in zip(configs, packed.members, strict=True):
        single = Trainer(config, data)
        train(single)
        assert single.sampler.weights is not None
        _close(member, single)


def test_a_pack_in_bf16_equals_separate_runs_within_its_rounding(data: Dataset) -> None:
    configs = _configs(precision="bf16")
    packed = PackedTrainer(configs, data)
    packed.step()
    for config, member in zip(configs, packed.members, strict=True):
        single = Trainer(config, data)
        single.step()
        for ours, theirs in zip(member.model.parameters(), single.model.parameters(), strict=True):
            assert ours.dtype == torch.float32
            # The first update of each weight is at most the learning rate, which starts near 0.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2 * config.optimizer.learning_rate / 100)


def test_a_pack_resumes_to_the_bit_from_its_members_checkpoints(tmp_path: Path, data: Dataset) -> None:
    configs = _configs()
    whole = PackedTrainer(configs, data)

    def keep(trainer: Trainer, place: int) -> None:
        name = checkpoints.checkpoint_name(str(place), trainer.images)
        checkpoints.write(tmp_path / name, trainer.checkpoint())

    train_together(whole, [calling(on_checkpoint=partial(keep, place=place)) for place in range(3)])
    resumed = PackedTrainer(configs, data)
    for place in range(3):
        resumed.members[place].restore(
            checkpoints.read(tmp_path / checkpoints.checkpoint_name(str(place), 64))
        )
    assert resumed.images == 64
    assert train_together(resumed) == [True] * 3
    for ours, theirs in zip(resumed.members, whole.members, strict=True):
        _close(ours, theirs, rtol=0, atol=0)


def test_a_run_goes_from_a_pack_to_a_trainer_and_back(tmp_path: Path, data: Dataset) -> None:
    configs = _configs()
    packed = PackedTrainer(configs, data)
    for _ in range(4):
        packed.step()
    middle = []
    for place, config in enumerate(configs):
        single = Trainer(config, data)
        single.restore(
            checkpoints.read(checkpoints.write(tmp_path / str(place), packed.members[place].checkpoint()))
        )
        for _ in range(4):
            single.step()
        middle.append(checkpoints.read(checkpoints.write(tmp_path / f"{place}b", single.checkpoint())))
    again = PackedTrainer(configs, data)
    for place, checkpoint in enumerate(middle):
        again.members[place].restore(checkpoint)
    train_together(again)
    for config, member in zip(configs, again.members, strict=True):
        whole = Trainer(config, data)
        train(whole)
        _close(member, whole)


def test_a_member_is_an_ordinary_trainer_at_any_time(data: Dataset) -> None:
    configs = _configs()
    packed, single = PackedTrainer(configs, data), Trainer(configs[1], data)
    for _ in range(3):
        packed.step()
        single.step()
    packed.members[1].step()
    single.step()
    _close(packed.members[1], single)


@pytest.mark.parametrize("at", [0, 6])
def test_a_run_that_is_not_finite_drops_out_alone(data: Dataset, at: int) -> None:
    configs = _configs()
    packed = PackedTrainer(configs, data)
    for _ in range(at):
        packed.step()
    with torch.no_grad():
        next(packed.members[1].model.parameters()).fill_(float("nan"))
    first, failed, last = train_together(packed)
    assert isinstance(failed, NonFiniteLoss)
    assert f"before {16 * at + 32} images" in str(failed)
    assert packed.members[1].images == 16 * at + 32
    assert first is last is True
    for place in (0, 2):
        single = Trainer(configs[place], data)
        train(single)
        _close(packed.members[place], single)


def test_a_run_stops_at_the_log_line_that_tells_it_to_and_the_others_go_on(data: Dataset) -> None:
    configs = _configs()
    packed = PackedTrainer(configs, data)
    seen: list[tuple[int, int]] = []

    def on_log(line: LogLine, place: int) -> bool:
        seen.append((place, line.images))
        return place == 2

    assert train_together(packed, [calling(on_log=partial(on_log, place=place)) for place in range(3)]) == [
        True,
        True,
        False,
    ]
    assert [images for place, images in seen if place == 2] == [32]
    assert packed.members[2].images == 32
    stopped = Trainer(configs[2], data)
    stopped.restore(packed.members[2].checkpoint())
    train(stopped)
    whole = Trainer(configs[2], data)
    train(whole)
    _close(stopped, whole)
    single = Trainer(configs[0], data)
    train(single)
    _close(packed.members[0], single)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 2}, "accumulate must be 1 where runs are packed, but got 2"),
        ({"compile": True}, "compile must be false where runs are packed, but got true"),
        ({"parallel": "fsdp"}, "parallel must be ddp where runs are packed, but got fsdp"),
        ({"precision": "fp16"}, "precision must be fp32 or bf16 where runs are packed, but got fp16"),
        ({"stability": {"spike_factor": 2.0}}, "stability.spike_factor must be null .* but got 2.0"),
        ({"data": {"name": "/shards", "format": "parquet"}}, "data must be held in memory .* got /shards"),
        ({"model": "diffusers:UNet2DModel"}, "model.kind must be unet, dit or mlp .* but got diffusers"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(
    data: Dataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        PackedTrainer(_configs(**changes), data)
    assert "\n" not in str(refused.value)


def test_runs_of_unlike_steps_are_refused(data: Dataset) -> None:
    first, second, _ = _configs()
    other = TrainConfig.model_validate({**SMALL, **UNET, "batch_size": 32})
    with pytest.raises(ConfigError, match="packed runs must have equal batch_size, but got 16 and 32: only"):
        PackedTrainer([first, second, other], data)
    with pytest.raises(ConfigError, match="a pack needs at least one run, but got 0"):
        PackedTrainer([], data)
    with pytest.raises(ConfigError, match="packed runs have one worker, but got 2"):
        PackedTrainer([first, second], data, World(size=2))


def test_members_that_are_behind_catch_up_first_and_all_end_as_they_would_alone(data: Dataset) -> None:
    configs = _configs()
    packed = PackedTrainer(configs, data)
    for place, steps in ((0, 4), (1, 2)):
        ahead = Trainer(configs[place], data)
        for _ in range(steps):
            ahead.step()
        packed.members[place].restore(ahead.checkpoint())
    assert (packed.images, packed.active) == (0, [2])
    logs: list[list[LogLine]] = [[], [], []]
    assert train_together(packed, [_logging(log) for log in logs]) == [True] * 3
    assert [log[0].images for log in logs] == [96, 64, 32]
    for config, member in zip(configs, packed.members, strict=True):
        whole = Trainer(config, data)
        train(whole)
        _close(member, whole)


def test_each_end_is_told_as_soon_as_it_comes(data: Dataset) -> None:
    packed = PackedTrainer(_configs(preview={"every_images": 32, "metric": False, "num_samples": 16}), data)
    told: list[tuple[int, Any, list[int]]] = []

    def on_end(end: End, place: int) -> None:
        told.append((place, end, [member.images for member in packed.members]))

    hooks = [calling(on_end=partial(on_end, place=place)) for place in range(3)]
    vars(hooks[1]).update(on_preview=lambda trainer: trainer.images == 64)
    train_together(packed, hooks)
    assert told[0] == (1, False, [64, 64, 64])
    assert [(place, end) for place, end, _ in told[1:]] == [(0, True), (2, True)]


def test_runs_that_differ_in_what_is_their_own_have_one_pack_key() -> None:
    own = {pack_key(config) for config in _configs()}
    assert len(own) == 1
    assert pack_key(_configs(batch_size=32)[0]) not in own
