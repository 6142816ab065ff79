"""Steps on a GPU, on machines without one: played on tensors that have a shape and a device, but no values.

An operation between devices raises, and so does one that reads a value, for which the host would wait in each step.
Gradients are made up: autograd's engine asks for the real device.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
    unset_fake_temporarily,
)

from curriculum_ray.config import parse
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import Dataset, DataSpec, InMemoryBatches, load_data
from curriculum_ray.training import trainer as trainers
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

GPU = torch.device("cuda", 0)
PLATEAU = {
    "clusters": {"by": "uniform", "count": 4},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience": 90},
}
DIT = {"kind": "dit", "depth": 1, "width": 32, "heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "ddpm": {"schedule": PLATEAU},
    "normalised losses": {"schedule": {**PLATEAU, "pacing": {**PLATEAU["pacing"], "normalize": True}}},
    "zero terminal SNR": {
        "process": {"kind": "ddpm", "prediction": "v", "zero_terminal_snr": True},
        "weighting": {"kind": "min_snr"},
    },
    "edm, learned weighting": {"process": {"kind": "edm"}, "weighting": {"kind": "edm2_uncertainty"}},
    "flow, bf16": {"process": {"kind": "flow"}, "precision": "bf16"},
    "power-function averages": {"ema": {"power": {"sigma_rels": [0.05, 0.1]}}},
    "classes": {"data": {"name": "digits", "conditioning": "class"}},
    "captions": {"data": {"name": "shapes", "conditioning": "text"}, "model": DIT},
    "signals": {"data": {"name": "tones"}, "model": DIT},
    "points": {"data": {"name": "mixture2d"}, "model": {"kind": "mlp"}},
}
# Single runs of these by default: each has parts that no other has.
BY_DEFAULT = (
    *("normalised losses", "edm, learned weighting", "flow, bf16", "power-function averages", "captions"),
)
# Packs of these; those of the others differ in what a single run's step shows.
QUICK = ("normalised losses", "points")


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is done once, with values."""

    def call(*args: Any, **options: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **options)

    return call


@functools.cache
def _data(spec: DataSpec) -> Dataset:
    """Loaded once for both tests of a case, with the fingerprint that the held-out loss names."""

    def load() -> Dataset:
        data = load_data(spec)
        assert data.heldout is None or data.heldout.fingerprint
        return data

    return _real(load)()


def _to(module: nn.Module, device: torch.device) -> nn.Module:
    """`nn.Module.to`, which swaps no values for tensors without."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    moved = torch.empty_strided(
                        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
                    )
                    wrap = isinstance(tensor, nn.Parameter)
                    tensors[name] = nn.Parameter(moved, tensor.requires_grad) if wrap else moved  # type: ignore[assignment]
    return module


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device without values, with what looks at values while a trainer is built kept from it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(trainers, "build_process", _real(trainers.build_process))
    monkeypatch.setattr(trainers, "start_network", _real(trainers.start_network))
    monkeypatch.setattr(TimestepSampler, "__init__", _real(TimestepSampler.__init__))
    monkeypatch.setattr(nn.Module, "to", _to)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    monkeypatch.setattr(
        torch.autograd, "grad", lambda loss, inputs, **_: [torch.empty_like(value) for value in inputs]
    )
    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.simplefilter("ignore")
        yield GPU
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _config(settings: dict[str, Any], seed: int = 0) -> TrainConfig:
    return parse(
        TrainConfig, {"batch_size": 16, "images": 6400, "window": 50, "seed": seed, **settings}, "test"
    )


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=() if name in BY_DEFAULT else pytest.mark.slow)
        for name, settings in CASES.items()
    ],
)
def test_a_step_stays_on_the_gpu(
    gpu: torch.device, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(settings)
    trainer = Trainer(config, _data(config.data), World(device=gpu))

    def backward(loss: Tensor) -> None:
        assert loss.device == gpu
        for parameter in trainer.parameters.values():
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    for _ in range(3):
        trainer.step()
    state = [*trainer.parameters.values(), *trainer.ema.model.parameters(), trainer.meter.loss_sum]
    assert {tensor.device for tensor in state} == {gpu}
    assert trainer.images == 3 * 16


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, settings in CASES.items()
    ],
)
def test_a_step_of_a_pack_stays_on_the_gpu(gpu: torch.device, settings: dict[str, Any]) -> None:
    configs = [_config(settings, seed) for seed in range(3)]
    trainer = PackedTrainer(configs, _data(configs[0].data), World(device=gpu))
    for _ in range(3):
        trainer.step()
    assert [member.images for member in trainer.members] == 3 * [3 * 16]


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_the_runs_of_a_pack_share_one_copy_of_the_data_on_the_gpu(gpu: torch.device, name: str) -> None:
    conditioning = {"digits": "class", "shapes": "text"}[name]
    configs = [_config({"data": {"name": name, "conditioning": conditioning}}, seed) for seed in range(3)]
    data = _data(configs[0].data)
    batches = [member.batches for member in PackedTrainer(configs, data, World(device=gpu)).members]
    first, *others = batches
    assert isinstance(first, InMemoryBatches)
    assert first.condition is not None
    assert (first.items.device, first.items.shape) == (gpu, data.stored.shape)
    assert first.condition.device == gpu
    for other in others:
        assert isinstance(other, InMemoryBatches)
        assert other.items is first.items
        assert other.condition is first.condition
    assert [each.order.seed for each in batches if isinstance(each, InMemoryBatches)] == [0, 1, 2]


def test_a_value_that_is_read_in_a_step_would_be_noticed(gpu: torch.device) -> None:
    with pytest.raises(DataDependentOutputException):
        torch.ones((), device=gpu).item()
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(2, device=gpu) + torch.ones(2)
