"""What a network needs, counted on tensors without content: nothing is computed, and no weight takes memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models import ModelSpec, build_model, example_condition
from curriculum_ray.models.lora import LoraSpec, add_adapters

__all__ = ["Footprint", "footprint"]


@dataclass(frozen=True)
class Footprint:
    """Weights, arithmetic and memory of a network; None where a network of somebody else's cannot be counted."""

    parameters: int
    """Number of weights."""
    train_flops: int | None
    """Floating-point operations forward and backward for one item; a multiplication and an addition count as two."""
    sample_flops: int | None
    """The same for one item forward."""
    kept_bytes: int | None
    """What autograd keeps of one item for the backward pass."""
    kept_once_bytes: int | None
    """What it keeps once for a whole batch: the copies of the weights that autocast makes."""
    trained: int | None = None
    """Number of weights that are trained; None for all."""


def footprint(
    spec: ModelSpec,
    data_shape: tuple[int, ...],
    conditioning: Conditioning = NO_CONDITIONING,
    autocast: bool = False,
    lora: LoraSpec | None = None,
) -> Footprint:
    """Count the network of `spec` on items of `data_shape`, in fp32 or, with `autocast`, in 16 bits.

    The network is built without memory, which takes a second also for a billion weights. One of somebody else's that
    cannot be built so is built as it is. lora: its adapters.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode:
            model = _built(spec, data_shape, conditioning, lora)
    except Exception:  # the code of somebody else, which may look at values that are not there
        model = _built(spec, data_shape, conditioning, lora)
    parameters = sum(value.numel() for value in model.parameters())
    trained = None
    if lora is not None:
        trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    taken: Any = model.conditioning
    try:
        with mode:
            values = {
                name: _without_content(value)
                for name, value in (*model.named_parameters(), *model.named_buffers())
            }
            one, two = (_count(model, values, data_shape, taken, items, autocast) for items in (1, 2))
    except Exception:  # the same
        return Footprint(parameters, None, None, None, None, trained)
    forward, whole, kept = (later - first for first, later in zip(one, two, strict=True))
    return Footprint(parameters, whole, forward, kept, max(0, one[2] - kept), trained)


def _built(
    spec: ModelSpec, data_shape: tuple[int, ...], conditioning: Conditioning, lora: LoraSpec | None
) -> nn.Module:
    model = build_model(spec, data_shape, conditioning)
    if lora is not None:
        add_adapters(model, lora)
    return model


def _without_content(value: Tensor) -> Tensor:
    empty = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype)
    return nn.Parameter(empty) if value.requires_grad else empty


def _count(
    model: nn.Module,
    values: dict[str, Tensor],
    data_shape: tuple[int, ...],
    conditioning: Conditioning,
    items: int,
    autocast: bool,
) -> tuple[int, int, int]:
    """Operations forward, operations forward and backward, and bytes kept in between, of a batch of `items`."""
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils.flop_counter import FlopCounterMode

    weights = {StorageWeakRef(value.untyped_storage()) for value in values.values()}
    kept: dict[StorageWeakRef, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        # The tensor stays alive, so that no other gets its storage.
        kept.setdefault(StorageWeakRef(value.untyped_storage()), value)
        return value

    inputs = (
        torch.zeros(items, *data_shape),
        torch.zeros(items),
        example_condition(conditioning, items) if conditioning else None,
    )
    with FlopCounterMode(display=False) as counter:
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = torch.func.functional_call(model, values, inputs)
        forward = counter.get_total_flops()
        out.float().square().mean().backward()
        whole = counter.get_total_flops()
    stored = sum(value.untyped_storage().nbytes() for key, value in kept.items() if key not in weights)
    return forward, whole, stored
