"""The arithmetic of a step: fp32, or bf16 and fp16 by autocast with fp32 weights (Micikevicius et al. 2018)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError

__all__ = ["Precision", "allow_tf32"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def allow_tf32(device: torch.device, allowed: bool) -> None:
    """Say for the process whether fp32 products on a GPU may be rounded to TF32; nothing where `device` is no GPU."""
    if device.type == "cuda":
        # Not `fp32_precision`: the compiler still reads these flags, which then raise (pytorch issue 166387).
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


class Precision:
    """Autocast around the forward pass and, for fp16, a scaled loss.

    name: fp32, bf16 or fp16. tf32: whether fp32 products on a GPU may be rounded to TF32; set for the process.
    Raises ConfigError for fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device, tf32: bool = True) -> None:
        if name == "fp16" and device.type == "cpu":
            raise ConfigError("precision fp16 needs a GPU, but the device is cpu: use bf16 or fp32")
        self._device, self._dtype = device.type, _DTYPES.get(name)
        allow_tf32(device, tf32)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of the forward pass."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device, dtype=self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, scaled where the precision needs it."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo the scaling of the gradients, before their norm is read."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, skip: bool = False) -> None:
        """Update the weights, except on `skip` or where gradients overflowed in fp16."""
        if not skip:
            self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scale and its counters, JSON-safe; empty where nothing is scaled."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
