"""Optimisers by name or import path, and whether a run with one can be resumed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown
from curriculum_ray.models.named_code import PYTHON, imported_class, in_one_line
from curriculum_ray.training.optimizer_state import optimizer_tensors, restore_optimizer
from curriculum_ray.training.rates import OPTIMIZERS, OptimizerSpec

__all__ = ["build_optimizer", "check_optimizer"]

_FUSED = frozenset({"adamw", "adam", "sgd"})
"""Those of which torch has one kernel for all weights on every device."""


def build_optimizer(
    spec: OptimizerSpec, parameters: Iterable[Tensor], scaled: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of `spec`; ConfigError, one line, where it cannot be imported or made.

    scaled: whether a `GradScaler` steps it, and skips the updates whose gradients overflowed, as in fp16.
    """
    factory, arguments = _factory_and_arguments(spec)
    if scaled and spec.kind == "sgd":
        # Fused, a first update that is skipped would leave the momentum uninitialised (torch 2.15, `_fused_sgd`).
        arguments["fused"] = False
    try:
        made = factory(list(parameters), **arguments)
    except Exception as error:
        raise ConfigError(f"optimizer.kind {spec.kind} cannot be made: {in_one_line(error)}") from None
    return made


def check_optimizer(spec: OptimizerSpec) -> None:
    """Raise ConfigError for an optimiser that cannot be made, or after whose resume training would not be the same."""
    if spec.kind in OPTIMIZERS and not spec.options:
        # Nothing else of it can be wrong; to make one would import torch's compiler, which takes seconds.
        _factory_and_arguments(spec)
        return
    weights, again = _weights(), _weights()
    first = build_optimizer(spec, weights.values())
    if not spec.kind.startswith(PYTHON):
        return
    try:
        for step in range(3):
            _step(first, weights, step)
        for name, value in weights.items():
            again[name].data.copy_(value.data)
        second = build_optimizer(spec, again.values())
        restore_optimizer(second, again, optimizer_tensors(first, weights))
        for step in range(3, 5):
            _step(first, weights, step)
            _step(second, again, step)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"optimizer.kind {spec.kind} fails on a small problem: {in_one_line(error)}"
        ) from None
    if not all(torch.equal(value, again[name]) for name, value in weights.items()):
        raise ConfigError(
            f"optimizer.kind {spec.kind} must keep its state in `state`, as tensors and numbers by weight, or as "
            "numbers in `param_groups`: otherwise training continues differently after a resume"
        )


def _factory_and_arguments(spec: OptimizerSpec) -> tuple[Any, dict[str, Any]]:
    """The class of `spec` and its arguments after the weights; ConfigError where it does not take what is set."""
    factory = _factory(spec.kind)
    takes = inspect.signature(factory).parameters
    options: dict[str, Any] = dict(spec.options)
    for name, value in options.items():
        if spec.kind in OPTIMIZERS and isinstance(value, str):
            raise ConfigError(
                f"optimizer.options.{name} must be a finite number, true or false for {spec.kind}, "
                f"but got {shown(value)}"
            )
    if "betas" in takes:
        options["betas"] = spec.betas
    elif spec.betas != OptimizerSpec().betas:
        raise ConfigError(f"optimizer.betas is not taken by {spec.kind}, but got {list(spec.betas)}")
    if "weight_decay" in takes:
        options["weight_decay"] = spec.weight_decay
    elif spec.weight_decay:
        raise ConfigError(f"optimizer.weight_decay is not taken by {spec.kind}, but got {spec.weight_decay}")
    if spec.kind in _FUSED:
        options["fused"] = True
    return factory, {"lr": spec.learning_rate, **options}


def _factory(kind: str) -> Any:
    if not kind.startswith(PYTHON):
        return getattr(torch.optim, OPTIMIZERS[kind])
    path = kind.removeprefix(PYTHON)
    return imported_class(path, torch.optim.Optimizer, "torch.optim.Optimizer", f"optimizer.kind {kind}")


def _weights() -> dict[str, nn.Parameter]:
    shapes = {"matrix": (4, 3), "vector": (4,), "kernel": (2, 3, 3, 3)}
    source = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=source)) for name, shape in shapes.items()}


def _step(optimizer: torch.optim.Optimizer, weights: dict[str, nn.Parameter], step: int) -> None:
    source = torch.Generator().manual_seed(step)
    for value in weights.values():
        value.grad = torch.randn(value.shape, generator=source)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 / (1 + step)
    optimizer.step()
