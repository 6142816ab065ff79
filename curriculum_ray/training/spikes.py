"""The spike guard: skip single updates that stand far out of the recent ones."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.training.config import StabilitySpec

__all__ = ["SpikeGuard"]


class SpikeGuard:
    """Running medians of gradient norm and loss; what was skipped does not enter them."""

    def __init__(self, spec: StabilitySpec) -> None:
        self.spec, self.skipped = spec, 0
        self._norms: deque[float] = deque(maxlen=spec.spike_window)
        self._losses: deque[float] = deque(maxlen=spec.spike_window)

    def spiked(self, norm: Tensor, loss: Tensor, world_size: int = 1) -> bool:
        """Whether to skip the update with this gradient norm and mean loss, both of shape (); equal on all ranks.

        Waits for the device, and for the other ranks. A value that is not finite is no spike: it stops the run.
        """
        values = torch.stack([norm.detach().double(), loss.detach().double()])
        if world_size > 1:
            torch.distributed.all_reduce(values)
        size, level = (values / world_size).tolist()
        factor = self.spec.spike_factor
        assert factor is not None
        if len(self._norms) == self.spec.spike_window and (
            factor * median(self._norms) < size < float("inf")
            or factor * median(self._losses) < level < float("inf")
        ):
            self.skipped += 1
            return True
        self._norms.append(size)
        self._losses.append(level)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Everything a resume needs, JSON-safe."""
        return {"skipped": self.skipped, "norms": list(self._norms), "losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.skipped = state["skipped"]
        self._norms.extend(state["norms"])
        self._losses.extend(state["losses"])
