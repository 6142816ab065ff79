"""Every optimiser trains, and a run with it resumes to the bit; what cannot be made or stored is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset
from curriculum_ray.models import TRUST_OPTION, check_named_code
from curriculum_ray.training import trainer as trainers
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.optimizers import build_optimizer, check_optimizer
from curriculum_ray.training.packed import check_packable
from curriculum_ray.training.precision import Precision
from curriculum_ray.training.rates import OPTIMIZERS, OptimizerSpec
from curriculum_ray.training.trainer import Trainer

DATA = Dataset("points", torch.randn(32, 2))
HERE = f"python:{__name__}"


class Counting(torch.optim.Optimizer):
    """Its steps depend on numbers beside the weights and in the group."""

    def __init__(self, params: Any, lr: float, scale: float = 1.0) -> None:
        super().__init__(params, {"lr": lr, "scale": scale, "passed": 0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Descend by a rate that falls with the count."""
        for group in self.param_groups:
            group["passed"] += 1
            for value in group["params"]:
                if value.grad is not None:
                    state = self.state[value]
                    state["count"] = state.get("count", 0) + 1
                    rate = group["lr"] * group["scale"] / (state["count"] + group["passed"])
                    value.data.add_(value.grad, alpha=-rate)


class Forgetful(Counting):
    """Keeps its count where no checkpoint can find it."""

    passed = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Descend by a rate that falls with a count of its own."""
        self.passed += 1
        for group in self.param_groups:
            for value in group["params"]:
                value.data.add_(value.grad, alpha=-1.0 / self.passed)


class Listing(Counting):
    """Its state is a list."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Only remember."""
        for value in self.param_groups[0]["params"]:
            self.state[value]["seen"] = [1]


class Sluggish(Counting):
    """Needs a closure."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Call what is not given."""
        closure()


class Scaling(Precision):
    """Scales losses and skips overflows as fp16 does, in fp32, so that a CPU can."""

    def __init__(self, name: str, device: torch.device, tf32: bool) -> None:
        super().__init__("fp32", device, tf32)
        self.scaler = torch.amp.GradScaler("cpu", enabled=name == "fp16")


@pytest.fixture
def _nan_where_uninitialised() -> Iterator[None]:
    """New memory is filled with what is not a number, instead of what chance left there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _trainer(precision: str = "fp32", **optimizer: Any) -> Trainer:
    settings = {
        "precision": precision,
        "batch_size": 8,
        "images": 80,
        "model": {"kind": "mlp", "width": 8, "depth": 1},
        "heldout": None,
    }
    config = {**settings, "data": {"name": "mixture2d"}, "optimizer": {"learning_rate": 0.01, **optimizer}}
    return Trainer(TrainConfig.model_validate(config), DATA)


@pytest.mark.parametrize(
    "optimizer",
    [
        *({"kind": kind} for kind in OPTIMIZERS),
        {"kind": "sgd", "options": {"momentum": 0.9, "nesterov": True}, "weight_decay": 0.1},
        {"kind": "adam", "options": {"amsgrad": True}},
        {"kind": f"{HERE}.Counting", "options": {"scale": 2.0}},
    ],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(optimizer: dict[str, Any]) -> None:
    check_optimizer(OptimizerSpec.model_validate(optimizer))
    whole, part = _trainer(**optimizer), _trainer(**optimizer)
    start = {name: value.detach().clone() for name, value in whole.parameters.items()}
    for _ in range(3):
        whole.step()
        part.step()
    resumed = _trainer(**optimizer)
    resumed.restore(part.checkpoint())
    for _ in range(3):
        whole.step()
        resumed.step()
    for name, value in whole.parameters.items():
        assert torch.equal(value, resumed.parameters[name])
    assert any(not torch.equal(value, start[name]) for name, value in whole.parameters.items())


@pytest.mark.usefixtures("_nan_where_uninitialised")
@pytest.mark.parametrize(
    "optimizer",
    [
        *({"kind": kind} for kind in OPTIMIZERS),
        {"kind": "sgd", "options": {"momentum": 0.9}},
        {"kind": "sgd", "options": {"momentum": 0.9, "dampening": 0.5}, "weight_decay": 0.1},
        {"kind": "adam", "options": {"amsgrad": True}},
    ],
)
def test_a_first_step_that_overflows_in_fp16_leaves_no_trace(
    optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "Precision", Scaling)
    trainer = _trainer("fp16", **optimizer)
    start = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    overflow = next(iter(trainer.parameters.values())).register_hook(lambda gradient: gradient * torch.inf)
    trainer.step()
    overflow.remove()
    assert all(torch.equal(value, start[name]) for name, value in trainer.parameters.items())
    trainer.step()
    fresh = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    wanted = build_optimizer(trainer.config.optimizer, fresh.values())
    for name, value in fresh.items():
        value.grad = trainer.parameters[name].grad
    wanted.param_groups[0]["lr"] = trainer.optimizer.param_groups[0]["lr"]
    wanted.step()
    for name, value in trainer.parameters.items():
        torch.testing.assert_close(value, fresh[name], rtol=1e-6, atol=1e-9)
    assert any(not torch.equal(value, start[name]) for name, value in trainer.parameters.items())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Forgetful", "must keep its state in `state`"),
        ("Listing", "must be tensors and numbers to be stored, but seen is list"),
        ("Sluggish", "fails on a small problem: TypeError"),
        ("DATA", "must be a subclass of torch.optim.Optimizer"),
        ("Nothing", "cannot be imported: AttributeError"),
    ],
)
def test_an_optimiser_of_one_s_own_is_tried_before_anything_starts(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_optimizer(OptimizerSpec(kind=f"{HERE}.{name}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"kind": "adagrad"},
            "optimizer.kind must be adamw, .* or python:package.module.Class, but got adagrad",
        ),
        ({"kind": "python:os"}, "optimizer.kind must be"),
        ({"kind": "sgd", "betas": [0.5, 0.5]}, r"optimizer.betas is not taken by sgd, but got \[0.5, 0.5\]"),
        (
            {"options": {"momentum": 0.9}},
            "optimizer.options of adamw must be among .*eps.*, but got momentum",
        ),
        ({"options": {"lr": 0.9}}, "optimizer.options.lr is not set here"),
    ],
)
def test_settings_of_no_optimiser_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(OptimizerSpec, values, "settings")


def test_what_has_no_options_is_checked_without_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would import torch's compiler in the driver of a search, which needs no optimiser.
    def made(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("curriculum_ray.training.optimizers.build_optimizer", made)
    check_optimizer(OptimizerSpec())


def test_values_that_the_class_refuses_are_said_in_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"optimizer.kind sgd cannot be made: ValueError: Invalid momentum value: -1"
    ):
        check_optimizer(OptimizerSpec(kind="sgd", options={"momentum": -1}))
    with pytest.raises(ConfigError, match=r"optimizer.weight_decay is not taken by"):
        check_optimizer(OptimizerSpec(kind=f"{HERE}.Counting", weight_decay=0.1))


def test_an_optimiser_named_by_a_file_needs_trust() -> None:
    settings = TrainConfig(optimizer=OptimizerSpec(kind=f"{HERE}.Counting")).model_dump(mode="json")
    with pytest.raises(ConfigError, match=rf"names code to import and run, .*Counting: add {TRUST_OPTION}"):
        check_named_code(settings, "a.yaml", trusted=False)


def test_packs_and_shards_refuse_what_they_cannot_do() -> None:
    sgd, plain = OptimizerSpec(kind="sgd"), TrainConfig()
    with pytest.raises(ConfigError, match=r"optimizer.kind must be adamw where runs are packed, but got sgd"):
        check_packable([plain, plain.model_copy(update={"optimizer": sgd})])
    with pytest.raises(ConfigError, match=r"optimizer.options must be {} where runs are packed"):
        check_packable([TrainConfig(optimizer=OptimizerSpec(options={"amsgrad": True}))])
    with pytest.raises(ConfigError, match=r"gradient_checkpointing must be false where runs are packed"):
        check_packable([TrainConfig(gradient_checkpointing=True)])
    with pytest.raises(ConfigError, match=r"parallel fsdp needs an optimizer.kind .*sgd, but got adafactor"):
        parse(TrainConfig, {"parallel": "fsdp", "optimizer": {"kind": "adafactor"}}, "settings")
