"""The spike guard: skips single updates that are far above the recent ones."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from curriculum_ray.config import Spec

__all__ = ["SpikeGuard", "StabilitySpec"]


class StabilitySpec(Spec):
    """How single bad updates are handled."""

    spike_factor: float | None = Field(default=None, gt=1)
    """Skip an update whose gradient norm or loss exceeds this multiple of its running median; null never skips."""
    spike_window: int = Field(default=64, ge=8)
    """Window of the medians, in updates of a stage, skipped ones included; nothing is skipped until it is full."""

    @model_validator(mode="after")
    def _window_applies(self) -> StabilitySpec:
        if self.spike_factor is None and self.spike_window != type(self).model_fields["spike_window"].default:
            raise ValueError(f"spike_window is for a spike_factor, but got {self.spike_window} without one")
        return self


class SpikeGuard:
    """Running medians of gradient norm and loss within a stage.

    Skipped updates count too: a new level that lasts becomes the norm after half a window, so no more than that are
    ever skipped in a row. A new stage has a different loss by design, and starts new windows.
    """

    def __init__(self, spec: StabilitySpec) -> None:
        self.spec, self.skipped = spec, 0
        self._stage = 0
        self._norms: deque[float] = deque(maxlen=spec.spike_window)
        self._losses: deque[float] = deque(maxlen=spec.spike_window)

    def spiked(self, norm: Tensor, loss: Tensor, stage: int = 0, world_size: int = 1) -> bool:
        """Whether to skip the update with this gradient norm and mean loss, both of shape (); equal on all ranks.

        stage: of the schedule. Waits for the device, and for the other ranks. A value that is not finite is no spike
        and does not enter the medians: it stops the run, or is an overflow of fp16 gradients.
        """
        if stage != self._stage:
            self._stage = stage
            self._norms.clear()
            self._losses.clear()
        values = torch.stack([norm.detach().double(), loss.detach().double()])
        if world_size > 1:
            torch.distributed.all_reduce(values)
        size, level = (values / world_size).tolist()
        if not (math.isfinite(size) and math.isfinite(level)):
            return False
        factor = self.spec.spike_factor
        assert factor is not None
        spiked = len(self._norms) == self.spec.spike_window and (
            size > factor * median(self._norms) or level > factor * median(self._losses)
        )
        self._norms.append(size)
        self._losses.append(level)
        self.skipped += spiked
        return spiked

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, JSON-safe."""
        return {
            "skipped": self.skipped,
            "stage": self._stage,
            "norms": list(self._norms),
            "losses": list(self._losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.skipped, self._stage = state["skipped"], state.get("stage", 0)
        for window, values in ((self._norms, state["norms"]), (self._losses, state["losses"])):
            window.clear()
            window.extend(values)
