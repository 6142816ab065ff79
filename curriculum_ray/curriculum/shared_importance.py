"""The histories for importance sampling, the same on all ranks at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from curriculum_ray.curriculum.importance import GradientNorm, Importance, LossSecondMoment
from curriculum_ray.curriculum.window import LossWindow, check_exchange

__all__ = ["SharedImportance"]


class SharedImportance:
    """Collects losses by bins of u, and applies them a window later, as pacing does, so that no rank waits.

    spec: the rule. steps: steps between exchanges, also with one rank, so that a run is the same at any world size.
    accumulation: parts of a step.
    """

    def __init__(
        self,
        spec: LossSecondMoment | GradientNorm,
        steps: int,
        world_size: int,
        group: dist.ProcessGroup | None,
        accumulation: int,
    ) -> None:
        check_exchange("importance", world_size, group)
        self._rule, self._accumulation = Importance(spec), accumulation
        self._ranks = world_size, group
        self._window = LossWindow(steps, self._rule.width, *self._ranks)
        self._history = self._rule.init()
        self.images = 0
        """Images seen at the end of the last window: what `ratios` is asked for must not change within one."""

    @property
    def empty(self) -> bool:
        """Whether the window has no step yet, so that a checkpoint is the same on all ranks."""
        return self._window.empty

    def add(self, u: Tensor, raw: Tensor, loss: Tensor, base_weights: Tensor | None = None) -> None:
        """Add a micro-batch: u (B,) on the CPU, its unweighted and its trained losses, (B,).

        base_weights: (B,), by which the base multiplies the trained losses, or None for 1.
        """
        for losses in (raw, loss):
            if losses.shape != u.shape:
                raise ValueError(
                    f"importance needs losses of shape ({len(u)},), but got {tuple(losses.shape)}"
                )
        if base_weights is not None:
            loss = loss * base_weights.to(loss.device, non_blocking=True)
        self._window.add(self._rule.row(u, raw, loss, self._accumulation))

    def close_step(self, images: int) -> bool:
        """The step's losses are complete, after `images` images; returns whether the histories have changed."""
        self._window.close_step(images)
        if not self._window.full:
            return False
        self.images = images
        before = self._window.exchange()
        if before is None:
            return False
        for row in before.rows:
            self._history = self._rule.update(self._history, row)
        return True

    def ratios(self, masses: Sequence[float]) -> list[float] | None:
        """How much more densely each bin is drawn than it would be without importance; see `Importance.ratios`."""
        return self._rule.ratios(self._history, masses)

    def state_dict(self) -> dict[str, Any]:
        """JSON-safe; the same on all ranks when `empty`."""
        return {
            "history": [list(entries) for entries in self._history],
            "steps": self._window.steps,
            "images": self.images,
            "window": self._window.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`, with the window that it was made with."""
        # States of the first releases lack these two.
        steps, self.images = state.get("steps", self._window.steps), state.get("images", 0)
        self._window = LossWindow(steps, self._rule.width, *self._ranks)
        self._history = tuple(tuple(entries) for entries in state["history"])
        self._window.load_state_dict(state["window"])
