"""The sampler: draws noise levels by a schedule in any training loop, the same at any world size."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.draws import IndependentPlaces, StratifiedPlaces
from curriculum_ray.curriculum.importance import NoImportance
from curriculum_ray.curriculum.level_draws import Drawn
from curriculum_ray.curriculum.pacing.plateau import WINDOWS
from curriculum_ray.curriculum.schedule import CurriculumSchedule
from curriculum_ray.curriculum.shared_importance import SharedImportance
from curriculum_ray.curriculum.shared_pacing import SharedPacing
from curriculum_ray.curriculum.stage_draws import StageDraws
from curriculum_ray.curriculum.surroundings import (
    check_at_least,
    check_process,
    check_rank_found,
    noise_levels,
    on_cpu,
    place_among_ranks,
)
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["TimestepSampler"]

# Number of repeated draws before a warning: two may be intended.
_REPEATED = 3


class TimestepSampler:
    """Draws noise levels for a training loop and moves through the schedule as images and losses come in.

        t = sampler.sample(batch_size, device=device)    # before the forward pass
        sampler.update(loss)                             # after it; state_dict() goes into the checkpoint

    Where the schedule has importance, or its base has weights (SpeeD), the trained losses must be multiplied by
    `weights`, and `update` reads the unweighted and the trained ones, both per sample and before this multiplication:

        losses = ...                                     # (batch,)
        (losses * sampler.weights).mean().backward()     # weights is None where all are 1
        sampler.update(raw, losses)

    Draws are stratified over the global batch: with k the place of a sample among all B of all ranks (and of
    all accumulated micro-batches), u01 = frac(k/B + offset(seed, images)) is mapped linearly into the active
    part of u. Each sample alone follows the active distribution exactly, whatever its place in the batch. Losses vary
    less from step to step than with independent draws; `stratified=False` draws independently.

    With one rank, a rule that reads losses decides at each step, and its decision holds from the next step on. Several
    ranks exchange their losses in windows, and each decision takes effect one window later, on every rank after the
    same number of images; no rank waits for its device or for another rank. Decisions by the images seen alone take
    effect at once. A stage lasts at least one step, and none is skipped.

    schedule: the curriculum. Exactly one of the following says what a noise level is:
    num_timesteps: T, for timesteps 0 (cleanest) .. T-1 (noise) whose noise schedule does not matter.
    sigma: True for EDM's sigmas > 0 (large is noise).
    flow: True for flow-matching times in [0, 1] (1 is noise).
    levels: any `NoiseLevels`, e.g. DiscreteTimesteps(alphas_cumprod); needed where the schedule reads the
    log-SNR.
    seed: seed of the draws; equal seeds draw equally at every world size that divides the batch.
    total_images: the run's budget in images over all ranks, for lengths that are shares of it.
    rank, world_size: default to those of process_group where torch.distributed is initialised, else 0 of 1: without
    them, make the sampler after torch.distributed. process_group: the ranks that share a global batch; by default all.
    window: steps between exchanges of losses, at most the patience; 0 to exchange and decide at every step, on several
    ranks by waiting for the slowest. If not given, 0 with one rank, else the largest of 10, 5, 2 and 1 that is at most
    a quarter of the patience. The value in force is part of the state, and a resume keeps it. Importance exchanges
    every 10 steps if it is not given, at any number of ranks, and applies losses one exchange later, also with 0.
    images: images already seen.
    accumulation: micro-batches per optimizer step; call sample and update once for each.
    stratified: False for independent draws, as of torch.randint; they too are equal at every world size.

    Raises `ConfigError` (a ValueError) where the schedule does not fit; the first `sample` does where its ladder or the
    window does not fit steps of this size, and where torch.distributed has been initialised in the meantime.
    """

    @on_cpu
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
        stratified: bool = True,
    ) -> None:
        check_at_least(
            num_timesteps=(num_timesteps, 1),
            total_images=(total_images, 1),
            window=(window, 0),
            images=(images, 0),
            accumulation=(accumulation, 1),
        )
        self.schedule = schedule
        self.levels = noise_levels(num_timesteps, sigma, flow, levels)
        self.seed, self.total_images, self.stratified = seed, total_images, stratified
        self.rank, self.world_size = place_among_ranks(rank, world_size, process_group)
        self.process_group = process_group
        self._rank_given = self._rank_checked = rank is not None
        self._draws = StageDraws(schedule, self.levels, total_images)
        self.edges, self.order = self._draws.edges, self._draws.order
        self.num_stages = schedule.num_stages
        self._pacing = SharedPacing(
            schedule,
            torch.tensor(self.edges, dtype=torch.float64),
            total_images,
            self.world_size,
            process_group,
            window,
            images,
            accumulation,
        )
        self.images, self.accumulation = images, accumulation
        self._part = 0
        self._drawn = 0
        self._repeated = 0
        self._step_images = 0
        importance = schedule.importance
        self._importance = (
            None
            if isinstance(importance, NoImportance)
            else SharedImportance(
                importance,
                WINDOWS[0] if window is None else max(window, 1),
                self.world_size,
                process_group,
                accumulation,
            )
        )
        self._weighs = self._importance is not None or self._draws.weighs
        self._weights_read = False
        places = StratifiedPlaces if stratified else IndependentPlaces
        self._places = places(seed, self.rank, self.world_size, accumulation)
        self._last: Drawn | None = None
        self._aim()

    @property
    def stage(self) -> int:
        """The current stage; 0 is the first, `num_stages` - 1 is ordinary training."""
        self._settle()
        return self._pacing.state.stage

    @property
    def ladder(self) -> list[int]:
        """The stages that the schedule asks for, ascending; all of them in this order, each for at least one step."""
        return self._pacing.ladder

    @property
    def window(self) -> int | None:
        """Steps between exchanges of the losses that pacing reads, 0 for decisions at every step.

        None if it was not given, before the first sample, and always where pacing reads no losses.
        """
        return self._pacing.window

    @property
    def at_boundary(self) -> bool:
        """Whether a checkpoint taken now is the same on all ranks and can be resumed exactly."""
        importance = self._importance
        return self._part == 0 and self._pacing.empty and (importance is None or importance.empty)

    @property
    def last_u(self) -> Tensor:
        """The u of the last sample: float64 (batch,) on the CPU, in [0, 1), 1 is noise.

        Where the base changes, it is the u of the first distribution, in which the clusters are cut.
        """
        if self._last is None:
            raise ValueError("last_u is known after sample()")
        return self._last.u

    @property
    def weights(self) -> Tensor | None:
        """The weights to multiply the losses of the last sample by: float32 (batch,) on the device of `sample`.

        None where all weights are 1. Importance weighs by the inverse of its relative density, normalised over the
        active part of u, not over the batch: average the weighted losses over the batches of all ranks.
        """
        self._weights_read = True
        return None if self._last is None else self._last.weights

    def unbiased(self, losses: Tensor) -> Tensor:
        """Losses of the last sample (batch,), each times the weight that makes up for importance, if there is any.

        Their mean estimates the loss that draws without importance would have, so it may be compared over the run and
        with other runs.
        """
        weights = None if self._last is None else self._last.importance_weights
        return losses if weights is None else losses * weights.to(losses.device, non_blocking=True)

    @on_cpu
    def sample(self, batch_size: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw the native noise levels of this rank's batch, shape (batch_size,): long timesteps or float32.

        `batch_size` is the local one, equal on all ranks. Sampling again before `update` repeats the draws, with
        one warning that an `update` may be missing. ConfigError inside a DataLoader's worker, whose copy of the sampler
        never receives updates. With one rank and a rule that reads losses, waits for the loss of the previous step;
        otherwise never waits.
        """
        check_process()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
        if not self._rank_checked:
            check_rank_found(self.rank, self.world_size, self.process_group)
            self._rank_checked = True
        if self._drawn:
            self._say_repeated()
        if self._pacing.begin(batch_size * self.world_size * self.accumulation):
            self._aim()
        self._settle()
        self._drawn = batch_size
        u01 = self._places(batch_size, self._part, self.images)
        self._last = self._draws.draw(u01, self.images).to(device)
        self._weights_read = not self._weighs
        return self._last.levels

    def _say_repeated(self) -> None:
        self._repeated += 1
        if self._repeated == _REPEATED:
            warnings.warn(
                f"sample() was called {_REPEATED + 1} times without update(loss): it repeats its draws, and the "
                "schedule stands still",
                # The caller of `sample`, beyond its decorator.
                stacklevel=4,
            )

    @on_cpu
    def update(self, loss: Tensor | float, trained: Tensor | None = None) -> None:
        """Read the loss of the last sample, and count its images; never waits for the device.

        loss: unweighted, on any device; the mean over the local batch, a number or of shape (), or per-sample losses,
        shape (batch,), which `pacing.normalize` and importance need. Rules that count images do not read it.
        trained: the trained losses (batch,), after any weighting by noise level and before `weights`, for importance;
        if not given, `loss`.

        Importance draws large losses more often: a rule that reads losses is given `unbiased` ones.

        Raises ValueError where the schedule weighs samples and their `weights` were not read.
        """
        last = self._last
        if not self._drawn or last is None:
            raise ValueError("call sample() before each update()")
        if not self._weights_read:
            raise ValueError(
                "this schedule weighs its samples: multiply their losses by `weights`, and then update()"
            )
        if self._pacing.reads or self._importance is not None:
            value = loss.detach() if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)
            if self._importance is not None:
                losses = value if trained is None else trained.detach()
                self._importance.add(last.u, value, losses, last.base_weights)
            if self._pacing.reads:
                self._pacing.add(value, last.u, last.importance_weights)
        self._step_images += self._drawn * self.world_size
        self._drawn = self._repeated = 0
        self._part += 1
        if self._part < self.accumulation:
            return
        self.images += self._step_images
        self._part = self._step_images = 0
        if self._importance is not None and self._importance.close_step(self.images):
            self._aim()
        if self._pacing.close_step(self.images):
            self._aim()

    @on_cpu
    def density(self, edges: Tensor) -> Tensor:
        """How densely each interval between `edges` of u is drawn now, relative to uniform; importance included.

        edges: float64 (K + 1,), from 0 to 1. u: that of `last_u`.
        """
        self._settle()
        return self._draws.density(edges, self.images)

    def snapshot(self) -> dict[str, Any]:
        """The state for display, JSON-safe: stage, images, intervals of u with densities, lowest loss."""
        self._settle()
        return {
            "schedule": self.schedule.describe(),
            "stage": self.stage,
            "num_stages": self.num_stages,
            "images": self.images,
            "active": [list(interval) for interval in self._draws.intervals],
            "best_loss": self._pacing.state.best,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs, JSON-safe. May wait for the device; exact when `at_boundary`."""
        self._settle()
        return {
            "version": 1,
            "schedule_id": self.schedule.schedule_id,
            "images": self.images,
            "seed": self.seed,
            "stratified": self.stratified,
            "levels": self.levels.kind,
            "num_levels": self.levels.count,
            "total_images": self.total_images,
            "part": self._part,
            "step_images": self._step_images,
            **self._pacing.state_dict(),
            "importance": self._importance.state_dict() if self._importance is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`; ConfigError for another schedule, seed, kind of draws or levels, or given window.

        Another total_images is one too where a base that changes would go back towards its first distribution.
        """
        levels = {"levels": self.levels.kind, "num_levels": self.levels.count}
        mine = {"version": 1, "schedule_id": self.schedule.schedule_id, "seed": self.seed}
        # Earlier states lack these.
        unnamed = {"stratified": True, **levels}
        for name, value in {**mine, "stratified": self.stratified, **levels}.items():
            found = state.get(name, unnamed.get(name))
            if found != value:
                raise ConfigError(f"the sampler's state has {name} {found!r}, but needs {value!r}")
        self._draws.check_budget(state.get("total_images", self.total_images), state["images"])
        self.images, self._part, self._step_images = state["images"], state["part"], state["step_images"]
        self._drawn, self._rank_checked = 0, self._rank_given
        self._pacing.load_state_dict(state, self.images)
        if self._importance is not None:
            self._importance.load_state_dict(state["importance"])
        self._aim()

    def _settle(self) -> None:
        """Apply the decision of the last step's loss, where the schedule decides at every step."""
        if self._pacing.settle():
            self._aim()

    @on_cpu
    def _aim(self) -> None:
        """Draw from the active part of this stage, with the importance known so far."""
        importance = self._importance
        if importance is None:
            self._draws.aim_at(self._pacing.state.stage)
        else:
            self._draws.aim_at(self._pacing.state.stage, importance.ratios, importance.images)
