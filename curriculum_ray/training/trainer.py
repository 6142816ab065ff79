"""One run on one worker: its model, optimiser, averages and schedule, and its optimiser step.

Every random number is a function of (seed, rank, images), as in EDM2's training loop (Karras et al. 2024), and
a checkpoint holds the whole state, so a resumed run repeats the uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import Batches, Conditioning, DataInfo, Dataset, InMemoryBatches
from curriculum_ray.data.augmentation import augmented
from curriculum_ray.diffusion import Objective, build_process
from curriculum_ray.models.compiled import compile_blocks, compile_network
from curriculum_ray.models.recomputed import recompute_blocks
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import Ema
from curriculum_ray.training.ema_posthoc import PowerEma
from curriculum_ray.training.flops import operations_per_item, peak_flops
from curriculum_ray.training.heldout import Heldout, check_heldout
from curriculum_ray.training.histogram import SampledHistogram
from curriculum_ray.training.meter import Meter
from curriculum_ray.training.network import build_network, frozen_weights, start_network
from curriculum_ray.training.optimizers import build_optimizer
from curriculum_ray.training.parallel import full, quiet, shard, whole
from curriculum_ray.training.precision import Precision
from curriculum_ray.training.rates import learning_rate
from curriculum_ray.training.readings import NO_READINGS, Readings
from curriculum_ray.training.seeds import noise_in_pieces, seed_step
from curriculum_ray.training.spikes import SpikeGuard
from curriculum_ray.training.state import capture, finite, restore
from curriculum_ray.training.world import World

__all__ = ["LogLine", "NonFiniteLoss", "Trainer"]


class NonFiniteLoss(RuntimeError):
    """The loss, or a weight, became infinite or NaN; the message names the image count."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One log line; equal on every rank except for speed, utilisation and memory."""

    images: int
    loss: float
    stage: int
    num_stages: int
    images_per_second: float
    snapshot: Mapping[str, Any]
    """The schedule's state for display."""
    skipped_updates: int = 0
    """Updates that the spike guard has skipped so far."""
    readings: Readings = NO_READINGS


class Trainer:
    """A model in training. `step()` is one optimiser step; `loop.train` runs to the end of the budget."""

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset | DataInfo,
        world: World | None = None,
        batches: Batches | None = None,
    ) -> None:
        self.config, self.data, self.world = config, data, world or World()
        if config.batch_size % self.world.size:
            raise ConfigError(
                f"batch_size must be a multiple of the number of workers, {self.world.size}, "
                f"but got {config.batch_size}"
            )
        share = config.batch_size // self.world.size
        if share % config.accumulate:
            raise ConfigError(
                f"accumulate must divide each worker's share of the batch, {share}, but got {config.accumulate}"
            )
        device = self.world.device
        self.precision = Precision(config.precision, device, config.tf32)
        # Before the seed, as some weightings draw numbers: arms of a seed must start from the same weights.
        self.process = build_process(config.process, config.weighting).to(device)
        torch.manual_seed(config.seed)
        model = start_network(config, data.shape, data.conditioning, data.vocabulary).to(device)
        frozen = frozen_weights(config, model)
        conditioning: Any = model.conditioning
        self.conditioning: Conditioning = conditioning
        self.model = model
        objective = Objective(self.process, model)
        self.frozen = frozenset(frozen)
        """Names of the network's weights that no checkpoint holds: those that adapters stand on."""
        self.ema = Ema(model, config.ema, shared=frozen.values())
        self.sharded = config.parallel == "fsdp" and self.world.size > 1
        if self.sharded:
            self.objective: nn.Module = shard(objective, device)
            shard(self.ema.model, device)
            self.ema.follow(model)
        if config.gradient_checkpointing:
            recompute_blocks(model)
        if config.compile:
            (compile_blocks if config.compile == "blocks" else compile_network)(model)
        if not self.sharded:
            self.objective = self.world.wrap(objective)
        self.power = PowerEma(model, config.ema.power) if config.ema.power else None
        self.parameters: dict[str, nn.Parameter] = {
            name: value for name, value in objective.named_parameters() if value.requires_grad
        }
        self.guard = SpikeGuard(config.stability) if config.stability.spike_factor else None
        self.optimizer = build_optimizer(
            config.optimizer, self.parameters.values(), scaled=config.precision == "fp16"
        )
        self.sampler = TimestepSampler(
            config.schedule,
            levels=self.process.levels,
            seed=config.seed,
            total_images=config.total_images,
            rank=self.world.rank,
            world_size=self.world.size,
            window=config.window,
            stratified=config.stratified,
        )
        self.histogram = SampledHistogram(config.total_images)
        if batches is None:
            assert isinstance(data, Dataset)
            batches = InMemoryBatches(data, config.seed, device, bool(self.conditioning))
            batches = augmented(batches, config.data, config.seed)
        self.batches = batches
        held = check_heldout(config, data)
        self.heldout = Heldout(self, held) if held else None
        self.stage_starts: list[list[int]] = [[0, self.sampler.stage]]
        self.devices: list[str] = []
        """The kinds of device that the run was trained on, filled in by whoever starts it."""
        self.loss: float | None = None
        self.meter = Meter(self.world)

    @property
    def images(self) -> int:
        """Images seen so far, over all workers."""
        return self.sampler.images

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return self.images // self.config.batch_size

    def step(self) -> None:
        """Draw a batch and its noise levels, update weights, average and schedule."""
        config, images = self.config, self.images
        raw, trained = self._backward(*self.draw())
        self.precision.unscale(self.optimizer)
        self.meter.gradient_norm = norm = self._clip(config.optimizer.clip_grad_norm)
        rate = learning_rate(config.optimizer, images + config.batch_size, config.total_images)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        skip = self.guard is not None and self.guard.spiked(
            full(norm), self.sampler.unbiased(raw).mean(), self.sampler.stage, self.world.size
        )
        self.precision.step(self.optimizer, skip)
        self.count(raw, trained)
        self.ema.update(self.images, config.batch_size)
        if self.power is not None:
            self.power.update(self.images, config.batch_size)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Seed the next step and draw what `Objective` takes: this rank's items, levels, noise and condition."""
        config, world, images = self.config, self.world, self.images
        seed_step(config.seed, world.rank, images, world.device)
        start = time.perf_counter()
        x0, condition = self.batches.next(images, config.batch_size, world.rank, world.size, world.device)
        self.meter.waited(start)
        levels = self.sampler.sample(len(x0), device=world.device)
        if self.sampler.stage != self.stage_starts[-1][1]:
            self.stage_starts.append([images, self.sampler.stage])
        noise = noise_in_pieces(x0, config.seed, images, world) if world.pieces else torch.randn_like(x0)
        return x0, levels, noise, condition

    def weighed(self, losses: Tensor, piece: slice = slice(None)) -> Tensor:
        """`losses` of a piece of the batch, each times its sample's weight in the schedule."""
        weights = self.sampler.weights
        return losses if weights is None else losses * weights[piece]

    def count(self, raw: Tensor, trained: Tensor) -> None:
        """Count the images of a step and advance the schedule.

        raw: the unweighted losses (B,). trained: the weighted losses (B,), before the schedule's own weights.
        """
        self.histogram.add(self.images, self.sampler.last_u)
        self.meter.loss_sum += self.sampler.unbiased(raw).mean()
        self.sampler.update(raw, trained)

    def _backward(
        self, x0: Tensor, levels: Tensor, noise: Tensor, condition: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the mean loss of this rank's share, in `accumulate` parts.

        Returns the unweighted and the weighted losses, (B,) each, both detached.
        """
        parts, size = self.config.accumulate, len(x0) // self.config.accumulate
        self.optimizer.zero_grad(set_to_none=True)
        raws, trained = [], []
        for part in range(parts):
            piece = slice(part * size, (part + 1) * size)
            given = None if condition is None else condition[piece]
            with quiet(self.objective, part < parts - 1):
                with self.precision.autocast():
                    losses, raw = self.objective(x0[piece], levels[piece], noise[piece], given)
                self.precision.backward(self.weighed(losses, piece).mean() / parts)
            raws.append(raw)
            trained.append(losses.detach())
        return (raws[0], trained[0]) if parts == 1 else (torch.cat(raws), torch.cat(trained))

    def _clip(self, largest: float) -> Tensor:
        """Shrink the gradients to a norm of at most `largest`; returns their norm before that.

        On a CPU, where reading the norm costs nothing, gradients that are small enough are left as they are:
        multiplying each by one takes as long as computing the norm.
        """
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self.sharded or self.world.device.type != "cpu" or not norm <= largest:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), largest, norm, foreach=True)
        return norm

    def log(self, steps: int, stop: bool) -> tuple[LogLine, bool]:
        """Average the loss of the last `steps` over all ranks, and agree on whether to stop, as rank 0 decides."""
        window = self.meter.read(steps, stop)
        if not math.isfinite(window.loss):
            raise NonFiniteLoss(
                f"the loss became {window.loss} within the {steps} steps before {self.images} images"
            )
        self.loss = window.loss
        config, speed = self.config, steps * self.config.batch_size / window.seconds
        progress = LogLine(
            images=self.images,
            loss=window.loss,
            stage=self.sampler.stage,
            num_stages=self.sampler.num_stages,
            images_per_second=speed,
            snapshot=self.sampler.snapshot(),
            skipped_updates=self.guard.skipped if self.guard else 0,
            readings=Readings(
                learning_rate=learning_rate(config.optimizer, self.images, config.total_images),
                gradient_norm=window.gradient_norm,
                data_wait=window.data_wait,
                mfu=None if self._full_speed is None else speed / self._full_speed,
                gpu_memory_gib=window.memory_gib,
            ),
        )
        self.meter.start()
        return progress, window.stop

    @cached_property
    def _full_speed(self) -> float | None:
        """Images per second at the peak of all devices; None where it is not known."""
        peak = peak_flops(self.world.device)
        if peak is None:
            return None
        needed = operations_per_item(
            self.config.model, self.data.shape, self.data.conditioning, self.config.lora
        )
        return peak * self.world.size / needed if needed else None

    def whole_model(self, ema: bool) -> nn.Module:
        """The averaged weights, or without `ema` the weights, as a plain module; every rank must call it."""
        model = self.ema.model if ema else self.model
        # A compiled module would be compiled again for each batch size.
        if not self.sharded and (ema or not self.config.compile):
            return model
        plain = build_network(self.config, self.data.shape, self.data.conditioning)
        plain.load_state_dict(whole(model.state_dict(), keep=True))
        return plain.to(self.world.device)

    def snapshot(self) -> dict[str, Tensor]:
        """The power-function averages, on rank 0; every rank must call it. Raises NonFiniteLoss, as `checkpoint`."""
        assert self.power is not None
        self._check_finite()
        return whole(self.power.tensors(), keep=self.world.rank == 0)

    def checkpoint(self) -> Checkpoint:
        """The whole state; every rank must call it. Exact when taken at a logging interval, as the loop does.

        Raises NonFiniteLoss where a weight is not finite, so that such a state is never saved.
        """
        self._check_finite()
        return capture(self)

    def _check_finite(self) -> None:
        if not finite(self):
            raise NonFiniteLoss(f"a weight became infinite or not a number before {self.images} images")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`, which must have the same settings; see `training.state`."""
        restore(self, checkpoint)
