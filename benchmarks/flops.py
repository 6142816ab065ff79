"""Floating-point operations of a training step, as torch's FlopCounterMode counts them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["training_flops"]


def training_flops(
    model: nn.Module, data_shape: tuple[int, ...], batch: int = 1, condition: Tensor | None = None
) -> int:
    """Count the operations of one forward and backward pass over `batch` items of `data_shape`.

    A multiply-add counts as two. Matrix products, convolutions and attention are counted, elementwise
    operations are not. Nothing is computed: the pass runs on a copy of the model on the meta device, in its
    current mode. condition: as the model takes it, shape (batch, ...).
    """
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(model).to("meta")
    x = torch.empty(batch, *data_shape, device="meta")
    condition = None if condition is None else condition.to("meta")
    with FlopCounterMode(display=False) as counter:
        twin(x, torch.empty(batch, device="meta"), condition).sum().backward()
    return counter.get_total_flops()
