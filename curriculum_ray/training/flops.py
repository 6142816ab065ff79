"""Floating-point operations of a training step, and the most that a device can do in a second.

Model FLOP utilisation (Chowdhery et al. 2022, §4.1): the operations that the network needs, over those that the devices
could have done in the same time. Always over the dense bfloat16 peak, whatever the precision of the run.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.data import Conditioning
from curriculum_ray.models import ModelSpec, build_model, example_condition
from curriculum_ray.models.lora import LoraSpec, add_adapters

__all__ = ["operations_per_item", "peak_flops", "training_flops"]

# Dense bfloat16 operations per second (data sheets of NVIDIA), by the device's name in capitals, without `_OF_ANY`.
_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIE": 756e12,
    "A100": 312e12,
    "A100 PCIE": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
}
# Words that do not tell models apart: maker, family, memory and socket, as in "NVIDIA A100-SXM4-80GB".
_OF_ANY = re.compile(r"NVIDIA|TESLA|GEFORCE|\d+GB|HBM\w+|SXM\d")


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 operations per second of a GPU; None for a CPU, for unknown ones, and for slices of one (MIG)."""
    if device.type != "cuda":
        return None
    words = re.split("[ -]", torch.cuda.get_device_name(device).upper())
    return _PEAKS.get(" ".join(word for word in words if not _OF_ANY.fullmatch(word)))


def training_flops(
    model: nn.Module, data_shape: tuple[int, ...], batch: int = 1, condition: Tensor | None = None
) -> int:
    """Count the operations of one forward and backward pass over `batch` items of `data_shape`.

    A multiply-add counts as two. Matrix products, convolutions and attention are counted (FlopCounterMode), elementwise
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


def operations_per_item(
    spec: ModelSpec, data_shape: tuple[int, ...], conditioning: Conditioning, lora: LoraSpec | None = None
) -> int | None:
    """Operations of a training step for one item, by a network that is built on the meta device.

    lora: its adapters, with which frozen weights need no gradients.

    None where that is impossible: a foreign network may do anything while it is built.
    """
    try:
        with torch.device("meta"):
            model: Any = build_model(spec, data_shape, conditioning)
            if lora is not None:
                add_adapters(model, lora)
            blank = example_condition(model.conditioning, 1) if model.conditioning else None
        return training_flops(model, data_shape, 1, blank)
    except Exception:
        return None
