"""The pacing of a run, the same on all ranks: the stage, the losses that it reads, and when."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.pacing import ByImages, Pacing, PacingState, caught_up
from curriculum_ray.curriculum.schedule import CurriculumSchedule
from curriculum_ray.curriculum.window import Losses, LossWindow, check_exchange

__all__ = ["SharedPacing"]


class SharedPacing:
    """The position of a run in its schedule. Every rank calls the same methods at the same step.

    edges: of the clusters in u, float64 (N + 1,). window: steps between exchanges of losses, 0 for each step, None to
    choose by the number of ranks; see `TimestepSampler`. images: already seen.
    """

    def __init__(
        self,
        schedule: CurriculumSchedule,
        edges: Tensor,
        total_images: int | None,
        world_size: int,
        group: dist.ProcessGroup | None,
        window: int | None,
        images: int,
        accumulation: int,
    ) -> None:
        self._schedule, self._inner_edges, self._total_images = (
            schedule,
            edges[1:-1].contiguous(),
            total_images,
        )
        self._world_size, self._group, self._accumulation = world_size, group, accumulation
        self._last = schedule.num_stages - 1
        self._rule = self._build(step=1)
        if self._rule.reads_losses:
            check_exchange("pacing by losses", world_size, group)
        self._given_window, self.window = window, window
        # Until the first step tells the size of a step, there is no window and no exact ladder.
        self._begun = self._loaded = False
        self._losses: LossWindow | None = None
        self._loaded_losses: dict[str, Any] | None = None
        self._due = False
        self._images = images
        self.state = caught_up(self._rule, images)

    def _build(self, step: int) -> Pacing:
        if self._schedule.pacing is None:
            return ByImages((0,), (0.0,))
        return self._schedule.pacing.build(self._last + 1, self._total_images, step)

    @property
    def ladder(self) -> list[int]:
        """The stages that the schedule asks for, ascending."""
        return list(self._rule.ladder)

    @property
    def empty(self) -> bool:
        """Whether the window has no step yet, so that the state is the same on all ranks."""
        loaded = self._loaded_losses
        return (self._losses is None or self._losses.empty) and not (loaded and loaded["rows"])

    @property
    def reads(self) -> bool:
        """Whether the next loss counts: none does in the last stage."""
        return self._losses is not None and self.state.stage < self._last

    def begin(self, step: int) -> bool:
        """Fit the ladder to optimizer steps of `step` images over all ranks, once; ConfigError where it cannot.

        Returns whether the stage has changed.
        """
        if self._begun:
            return False
        self._schedule.check_ladder(step, self._total_images)
        if self._given_window:
            self._schedule.check_window(self._given_window, step, self._total_images)
        self._begun, self._rule = True, self._build(step)
        before = self.state
        if not self._loaded:
            self.state = caught_up(self._rule, self._images)
        self._fit_window()
        return self.state.stage != before.stage

    def _fit_window(self) -> None:
        if not self._rule.reads_losses:
            return
        if self.window is None:
            self.window = 0 if self._world_size == 1 else self._rule.window
        width = 2 * self._schedule.clusters.count if self._rule.per_cluster else 1
        self._losses = LossWindow(max(self.window, 1), width, self._world_size, self._group)
        if self._loaded_losses is not None:
            self._losses.load_state_dict(self._loaded_losses)
            self._loaded_losses = None

    def add(self, loss: Tensor, u: Tensor, weights: Tensor | None = None) -> None:
        """Add the loss of a micro-batch, shape () or (batch,), drawn at `u`, float64 (batch,).

        weights: (batch,), those that make up for importance: what is read is the loss that draws without it would have.
        """
        assert self._losses is not None
        self._losses.add(self._row(loss, u, weights))

    def close_step(self, images: int) -> bool:
        """The step is complete, after `images` images; returns whether the stage has changed."""
        self._images, state = images, self.state
        if self._losses is not None and self.reads:
            self._losses.close_step(images, state.stage)
            if self._losses.full:
                before = self._losses.exchange()
                self._due = self.window == 0
                state = self._read(before)
        return not self._due and self._enter(state)

    def settle(self) -> bool:
        """Read the loss of the last step, where each step decides; returns whether the stage has changed."""
        if not self._due:
            return False
        assert self._losses is not None
        self._due = False
        return self._enter(self._read(self._losses.collect()))

    def state_dict(self) -> dict[str, Any]:
        """JSON-safe; settled."""
        losses = self._loaded_losses if self._losses is None else self._losses.state_dict()
        return {"window": self.window, "pacing": dataclasses.asdict(self.state), "losses": losses}

    def load_state_dict(self, state: dict[str, Any], images: int) -> None:
        """Restore a `state_dict`; ConfigError where another window was given."""
        if self._given_window is not None and state.get("window") != self._given_window:
            raise ConfigError(
                f"the sampler's state has window {state.get('window')!r}, but needs {self._given_window!r}"
            )
        # The next sample rebuilds the window and the ladder.
        self._loaded = True
        self._begun, self._losses, self._due, self._images = False, None, False, images
        self.window, self._loaded_losses = state["window"], state["losses"]
        pacing = state["pacing"]
        self.state = PacingState(
            **{**pacing, "sums": tuple(pacing["sums"]), "counts": tuple(pacing["counts"])}
        )

    def _row(self, loss: Tensor, u: Tensor, weights: Tensor | None) -> Tensor:
        """The contribution of a micro-batch to its step's row; the mean over ranks is the global batch's row."""
        if weights is not None:
            weights = weights.to(loss.device, non_blocking=True)
        if not self._rule.per_cluster:
            if weights is not None:
                loss = loss * weights
            # Half precision would hide small improvements in the mean.
            mean = loss.mean(dtype=torch.promote_types(loss.dtype, torch.float32)) if loss.ndim else loss
            return mean if self._accumulation == 1 else mean / self._accumulation
        if loss.shape != u.shape:
            raise ValueError(
                f"pacing.normalize needs losses of shape ({len(u)},), but got {tuple(loss.shape)}"
            )
        cluster = torch.searchsorted(self._inner_edges, u, right=True).to(loss.device, non_blocking=True)
        # Sums of half-precision numbers would stall.
        loss = loss.to(torch.promote_types(loss.dtype, torch.float32))
        counts = torch.ones_like(loss) if weights is None else weights.to(loss.dtype)
        pairs = torch.stack([loss * counts, counts], dim=1)
        row = torch.zeros(len(self._inner_edges) + 1, 2, dtype=loss.dtype, device=loss.device)
        return row.index_add_(0, cluster, pairs, alpha=1 / (len(loss) * self._accumulation)).flatten()

    def _read(self, losses: Losses | None) -> PacingState:
        """The state after losses of the current stage; those of an older one are ignored.

        A deadline may end a stage in the middle of a window, which then has losses of both.
        """
        state = self.state
        if losses is not None:
            for row, images, stage in zip(losses.rows, losses.images, losses.stages, strict=True):
                if stage == state.stage:
                    state = self._rule.update(state, row, images)
        return state

    def _enter(self, state: PacingState) -> bool:
        """Enter `state`, or its successor by the images seen; returns whether the stage has changed."""
        if state.stage == self.state.stage:
            state = self._rule.advance(state, self._images)
        changed = state.stage != self.state.stage
        self.state = state
        if changed and self._losses is not None and state.stage == self._last:
            self._losses.drop()
        return changed
