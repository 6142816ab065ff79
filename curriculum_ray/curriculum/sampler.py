"""The sampler: draws noise levels by a schedule in anybody's training loop, alike at any world size."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import get_worker_info

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.curriculum.cells import UncalibratedTimesteps, boundaries
from curriculum_ray.curriculum.clusters import cluster_edges
from curriculum_ray.curriculum.draws import ActiveMap, offset, positions
from curriculum_ray.curriculum.order import join_order
from curriculum_ray.curriculum.pacing import ByImages, Pacing, PacingState, caught_up
from curriculum_ray.curriculum.schedule import CurriculumSchedule
from curriculum_ray.curriculum.window import Losses, LossWindow
from curriculum_ray.diffusion.levels import FlowTimes, NoiseLevels, Sigmas

__all__ = ["TimestepSampler"]

# Draws that are repeated before it is said: twice may be meant.
_REPEATED = 3


class TimestepSampler:
    """Draws noise levels for a training loop and moves through the schedule as images and losses come in.

        t = sampler.sample(batch_size, device=device)    # before the forward pass
        sampler.update(loss)                             # after it; state_dict() goes into the checkpoint

    Draws are stratified over the global batch: with k the place of a sample among all B of all ranks (and of
    all accumulated micro-batches), u01 = frac(k/B + offset(seed, images)) is mapped linearly into the active
    part of u. Each sample alone is spread exactly as the active distribution is, wherever it stands in the
    batch.

    A rule that reads losses decides at each step where there is one rank, and its decision holds from the next step
    on. Several ranks exchange their losses in windows, and each decision takes effect one window later, on every rank
    after the same number of images; nobody waits for the device or for another rank. A rule that reads the images
    seen and nothing else takes effect at once. A stage lasts at least one step, and the next one follows it.

    schedule: what to do. Exactly one of the following says what a noise level is:
    num_timesteps: T, for timesteps 0 (cleanest) .. T-1 (noise) whose noise schedule does not matter.
    sigma: True for EDM's sigmas > 0 (large is noise).
    flow: True for flow-matching times in [0, 1] (1 is noise).
    levels: any `NoiseLevels`, e.g. DiscreteTimesteps(alphas_cumprod); needed where the schedule reads the
    log-SNR.
    seed: seed of the draws; equal seeds draw equally at every world size that divides the batch.
    total_images: the run's budget in images, for lengths that are shares of it.
    rank, world_size, process_group: default to torch.distributed where it is initialised, else 0 of 1.
    window: steps between exchanges of losses; 0 to exchange and decide at every step, on several ranks by waiting for
    the slowest. If not given, 0 with one rank, else the largest of 10, 5, 2 and 1 that is at most a quarter of the
    patience. The value in force is part of the state, and a resume keeps it.
    images: images already seen.
    accumulation: micro-batches per optimizer step; call sample and update once for each.

    Raises `ConfigError` (a ValueError) where the schedule does not fit.
    """

    def __init__(
        self,
        schedule: CurriculumSchedule,
        *,
        num_timesteps: int | None = None,
        sigma: bool = False,
        flow: bool = False,
        levels: NoiseLevels | None = None,
        seed: int = 0,
        total_images: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        process_group: dist.ProcessGroup | None = None,
        window: int | None = None,
        images: int = 0,
        accumulation: int = 1,
    ) -> None:
        for name, value, least in (
            ("num_timesteps", num_timesteps, 1),
            ("total_images", total_images, 1),
            ("window", window, 0),
            ("images", images, 0),
            ("accumulation", accumulation, 1),
        ):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, but got {value}")
        self.schedule = schedule
        self.levels = _levels(num_timesteps, sigma, flow, levels)
        self.seed, self.total_images = seed, total_images
        self.rank, self.world_size = _world(rank, world_size, process_group)
        self._cells = _inner_cells(schedule, self.levels)
        edges = cluster_edges(schedule.clusters, schedule.base, self.levels)
        self.edges: list[float] = edges.tolist()
        self._inner_edges = edges[1:-1].contiguous()
        self.order = join_order(schedule.order, edges, schedule.base, self.levels)
        self.num_stages = schedule.num_stages
        self._rule = self._build_rule(step=1)
        if (
            self._rule.reads_losses
            and self.world_size > 1
            and not (dist.is_available() and dist.is_initialized())
        ):
            raise ConfigError(
                f"pacing by losses with world_size {self.world_size} needs torch.distributed initialised"
            )
        self._group, self._given_window, self._window = process_group, window, window
        # Images of an optimizer step over all ranks: known from the first sample on, as are the rule's rungs.
        self._step = 0
        self._losses: LossWindow | None = None
        self._loaded_losses: dict[str, Any] | None = None
        self._due = False
        self.images, self.accumulation = images, accumulation
        self._part = 0
        self._drawn = 0
        self._repeated = 0
        self._step_images = 0
        self._positions: Tensor | None = None
        self._positions_of = (0, 0)
        self._u: Tensor | None = None
        self._state = caught_up(self._rule, images)
        self._active = self._active_map()

    def _build_rule(self, step: int) -> Pacing:
        if self.schedule.pacing is None:
            return ByImages((0,), (0.0,))
        return self.schedule.pacing.build(self.num_stages, self.total_images, step)

    def _begin(self, step: int) -> None:
        """Fit the ladder to optimizer steps of `step` images; ConfigError where it cannot be walked in them."""
        self.schedule.check_ladder(step, self.total_images)
        self._step, self._rule = step, self._build_rule(step)
        if not self._rule.reads_losses:
            return
        if self._window is None:
            self._window = 0 if self.world_size == 1 else self._rule.window
        width = 2 * self.schedule.clusters.count if self._rule.per_cluster else 1
        self._losses = LossWindow(max(self._window, 1), width, self.world_size, self._group)
        if self._loaded_losses is not None:
            self._losses.load_state_dict(self._loaded_losses)
            self._loaded_losses = None

    @property
    def stage(self) -> int:
        """The current stage; 0 is the first, `num_stages` - 1 is ordinary training."""
        self._settle()
        return self._state.stage

    @property
    def ladder(self) -> list[int]:
        """The stages that the schedule asks for, ascending; all of them in this order, each for at least one step."""
        return list(self._rule.ladder)

    @property
    def window(self) -> int | None:
        """Steps between exchanges of losses, 0 for decisions at every step; None before the first sample."""
        return self._window

    @property
    def at_boundary(self) -> bool:
        """Whether a checkpoint taken now is the same on all ranks and resumes exactly."""
        losses, loaded = self._losses, self._loaded_losses
        return self._part == 0 and (losses is None or losses.empty) and not (loaded and loaded["rows"])

    @property
    def last_u(self) -> Tensor:
        """The u of the last sample: float64 (batch,) on the CPU, in [0, 1), 1 is noise."""
        if self._u is None:
            raise ValueError("last_u is known after sample()")
        return self._u

    def sample(self, batch_size: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw the native noise levels of this rank's batch, shape (batch_size,): long timesteps or float32.

        `batch_size` is the local one, equal on all ranks. Sampling again before `update` repeats the draws, which is
        warned of once, as an `update` that was forgotten. ConfigError inside a DataLoader's worker, whose copy of the
        sampler never hears of an update.
        With one rank and a rule that reads losses, waits for the loss of the step before; else for nothing.
        """
        _check_process()
        if self._drawn:
            self._say_repeated()
        if not self._step:
            self._begin(batch_size * self.world_size * self.accumulation)
        self._settle()
        if self._positions_of != (batch_size, self._part) or self._positions is None:
            if batch_size < 1:
                raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
            part = self.rank + self.world_size * self._part
            self._positions = positions(batch_size, part, self.world_size * self.accumulation)
            self._positions_of = (batch_size, self._part)
        self._drawn = batch_size
        u01 = (self._positions + offset(self.seed, self.images)).frac_()
        self._u = u = self._active(u01)
        if self._cells is not None:
            level = torch.searchsorted(self._cells, u, right=True)
        else:
            level = level_of(self.schedule.base, u, self.levels).to(torch.float32)
        return level if device == "cpu" else level.to(device, non_blocking=True)

    def _say_repeated(self) -> None:
        self._repeated += 1
        if self._repeated == _REPEATED:
            warnings.warn(
                f"sample() was called {_REPEATED + 1} times without update(loss): it repeats its draws, and the "
                "schedule stands still",
                stacklevel=3,
            )

    def update(self, loss: Tensor | float) -> None:
        """Read the loss of the last sample, and count its images; never waits for the device.

        loss: on any device; the mean over the local batch, a number or of shape (), or per-sample losses, shape
        (batch,), which `pacing.normalize` needs. Unweighted losses are the ones to read. Not read by rules that go by
        images.
        """
        if not self._drawn:
            raise ValueError("call sample() before each update()")
        if self._losses is not None and self._state.stage < self.num_stages - 1:
            value = loss.detach() if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)
            self._losses.add(self._row(value))
        self._step_images += self._drawn * self.world_size
        self._drawn = self._repeated = 0
        self._part += 1
        if self._part < self.accumulation:
            return
        self.images += self._step_images
        self._part = self._step_images = 0
        state = self._state
        if self._losses is not None and state.stage < self.num_stages - 1:
            self._losses.close_step(self.images)
            if self._losses.full:
                before = self._losses.exchange(state.stage)
                self._due = self._window == 0
                state = self._read(before)
        if not self._due:
            self._enter(state)

    def snapshot(self) -> dict[str, Any]:
        """The state for display, JSON-safe: stage, images, intervals of u with densities, lowest loss."""
        self._settle()
        return {
            "schedule": self.schedule.describe(),
            "stage": self.stage,
            "num_stages": self.num_stages,
            "images": self.images,
            "active": [list(interval) for interval in self._active.intervals],
            "best_loss": self._state.best,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, JSON-safe. May wait for the device; exact when `at_boundary`."""
        self._settle()
        losses = self._loaded_losses if self._losses is None else self._losses.state_dict()
        return {
            "version": 1,
            "schedule_id": self.schedule.schedule_id,
            "images": self.images,
            "seed": self.seed,
            "window": self._window,
            "part": self._part,
            "step_images": self._step_images,
            "pacing": dataclasses.asdict(self._state),
            "losses": losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; ConfigError for another schedule, seed or given window."""
        mine = {"version": 1, "schedule_id": self.schedule.schedule_id, "seed": self.seed}
        if self._given_window is not None:
            mine["window"] = self._given_window
        for name, value in mine.items():
            if state.get(name) != value:
                raise ConfigError(f"the sampler's state has {name} {state.get(name)!r}, but needs {value!r}")
        self.images, self._part, self._step_images = state["images"], state["part"], state["step_images"]
        self._drawn = 0
        # The next sample makes the window and the ladder anew.
        self._step, self._losses, self._due = 0, None, False
        self._window, self._loaded_losses = state["window"], state["losses"]
        pacing = state["pacing"]
        self._state = PacingState(
            **{**pacing, "sums": tuple(pacing["sums"]), "counts": tuple(pacing["counts"])}
        )
        self._active = self._active_map()

    def _row(self, loss: Tensor) -> Tensor:
        """What one micro-batch adds to its step's row; its mean over ranks is the global batch's row."""
        if not self._rule.per_cluster:
            # Half precision would hide small improvements in the mean.
            mean = loss.mean(dtype=torch.promote_types(loss.dtype, torch.float32)) if loss.ndim else loss
            return mean if self.accumulation == 1 else mean / self.accumulation
        assert self._u is not None
        if loss.shape != self._u.shape:
            raise ValueError(
                f"pacing.normalize needs losses of shape ({len(self._u)},), but got {tuple(loss.shape)}"
            )
        cluster = torch.searchsorted(self._inner_edges, self._u, right=True).to(
            loss.device, non_blocking=True
        )
        pairs = torch.ones(len(loss), 2, dtype=loss.dtype, device=loss.device)
        pairs[:, 0] = loss
        row = torch.zeros(len(self.order), 2, dtype=loss.dtype, device=loss.device)
        return row.index_add_(0, cluster, pairs, alpha=1 / (len(loss) * self.accumulation)).flatten()

    def _settle(self) -> None:
        """Read the loss of the last step and obey it, where the schedule decides at every step."""
        if self._due:
            assert self._losses is not None
            self._due = False
            self._enter(self._read(self._losses.collect()))

    def _read(self, losses: Losses | None) -> PacingState:
        """The state after losses of the present stage; those of an older one say nothing about it."""
        state = self._state
        if losses is None or losses.stage != state.stage:
            return state
        for row, images in zip(losses.rows, losses.images, strict=True):
            state = self._rule.update(state, row, images)
            if state.stage != losses.stage:
                break
        return state

    def _enter(self, state: PacingState) -> None:
        """Make `state` the present one, or what follows it by the images seen."""
        if state.stage == self._state.stage:
            state = self._rule.advance(state, self.images)
        changed = state.stage != self._state.stage
        self._state = state
        if changed:
            self._active = self._active_map()
            if self._losses is not None and state.stage == self.num_stages - 1:
                self._losses.drop()

    def _active_map(self) -> ActiveMap:
        if self.schedule.pacing is None:
            return ActiveMap(self.edges, [1.0] * len(self.order))
        return ActiveMap(self.edges, self.schedule.active.densities(self.order, self.stage))


def _check_process() -> None:
    """Refuse a copy of the sampler that can hear of no update, and would give the same noise levels for ever."""
    if get_worker_info() is not None:
        raise ConfigError(
            "a TimestepSampler cannot be drawn from inside a DataLoader worker: its copy there never hears update(); "
            "draw in the training loop, once a batch"
        )


def _levels(num_timesteps: int | None, sigma: bool, flow: bool, levels: NoiseLevels | None) -> NoiseLevels:
    given = sum((num_timesteps is not None, sigma, flow, levels is not None))
    if given != 1:
        raise ConfigError(
            f"exactly one of num_timesteps, sigma, flow and levels must be given, but got {given}"
        )
    if num_timesteps is not None:
        return UncalibratedTimesteps(num_timesteps)
    if levels is not None:
        return levels
    return Sigmas() if sigma else FlowTimes()


def _inner_cells(schedule: CurriculumSchedule, levels: NoiseLevels) -> Tensor | None:
    """The inner borders of discrete levels' cells, or None; ConfigError where the base does not apply."""
    try:
        if levels.count is not None:
            return boundaries(schedule.base, levels)[1:-1].contiguous()
        level_of(schedule.base, torch.full((1,), 0.5, dtype=torch.float64), levels)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(
            f"base {schedule.base.kind} does not apply to {levels.kind} levels: {error}"
        ) from None
    return None


def _world(rank: int | None, world_size: int | None, group: dist.ProcessGroup | None) -> tuple[int, int]:
    """This process's place among the ranks."""
    if (rank is None) != (world_size is None):
        raise ConfigError("rank and world_size must be given together")
    if rank is None or world_size is None:
        if not (dist.is_available() and dist.is_initialized()):
            return 0, 1
        return dist.get_rank(group), dist.get_world_size(group)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be in 0..{world_size - 1}, but got {rank}")
    return rank, world_size
