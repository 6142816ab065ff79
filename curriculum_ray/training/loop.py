"""One worker's training loop: no Ray, callbacks in and out, progress in images seen.

Every random number is a function of (seed, rank, images), as in EDM2's training loop (Karras et al. 2024), and
the whole state lies in one checkpoint, so a resumed run repeats the uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import Batches, Conditioning, DataInfo, Dataset, InMemoryBatches
from curriculum_ray.diffusion import Objective, build_process
from curriculum_ray.models import build_model
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import Ema
from curriculum_ray.training.histogram import SampledHistogram
from curriculum_ray.training.optimizer_state import optimizer_tensors, restore_optimizer
from curriculum_ray.training.seeds import seed_step

__all__ = ["NonFiniteLoss", "Progress", "Trainer", "World"]


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or not a number; the message names the image count."""


@dataclass(frozen=True)
class World:
    """This worker's place: its rank, how many workers there are, its device, and how to wrap a module."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One log line; equal on every rank except for the speed."""

    images: int
    loss: float
    stage: int
    num_stages: int
    images_per_second: float
    snapshot: Mapping[str, Any]
    """The schedule's state for display."""


class Trainer:
    """A model in training. `step()` is one optimiser step; `run()` goes to the end of the budget."""

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
        device = self.world.device
        torch.manual_seed(config.seed)
        self.process = build_process(config.process, config.weighting).to(device)
        model = build_model(config.model, data.shape, data.conditioning).to(device)
        self.conditioning: Conditioning = model.conditioning
        self.model = model
        objective = Objective(self.process, model)
        self._parameters = dict(objective.named_parameters())
        self.objective = self.world.wrap(objective)
        self.ema = Ema(model, config.ema)
        spec = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self._parameters.values(),
            lr=spec.learning_rate,
            betas=spec.betas,
            weight_decay=spec.weight_decay,
            fused=True,
        )
        self.sampler = TimestepSampler(
            config.schedule,
            levels=self.process.levels,
            seed=config.seed,
            total_images=config.total_images,
            rank=self.world.rank,
            world_size=self.world.size,
            window=config.window,
        )
        self.histogram = SampledHistogram(config.total_images)
        if batches is None:
            assert isinstance(data, Dataset)
            batches = InMemoryBatches(data, config.seed, device, bool(self.conditioning))
        self.batches = batches
        self.stage_starts: list[list[int]] = [[0, self.sampler.stage]]
        self.loss: float | None = None
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._clock = time.perf_counter()

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
        config, world, images = self.config, self.world, self.images
        seed_step(config.seed, world.rank, images)
        x0, condition = self.batches.next(images, config.batch_size, world.rank, world.size, world.device)
        levels = self.sampler.sample(len(x0), device=world.device)
        losses, raw = self.objective(x0, levels, torch.randn_like(x0), condition)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(self._parameters.values(), config.optimizer.clip_grad_norm, foreach=True)
        warmup = config.optimizer.warmup_images
        rate = config.optimizer.learning_rate * (
            min(1.0, (images + config.batch_size) / warmup) if warmup else 1.0
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.histogram.add(images, self.sampler.last_u)
        self._loss_sum += raw.mean()
        self.sampler.update(raw)
        self.ema.update(self.images, config.batch_size)
        if self.sampler.stage != self.stage_starts[-1][1]:
            self.stage_starts.append([self.images, self.sampler.stage])

    def run(
        self,
        on_log: Callable[[Progress], bool] | None = None,
        on_checkpoint: Callable[[Trainer], None] | None = None,
    ) -> bool:
        """Train to the end of the budget.

        `on_log` is called on every rank at each logging interval; when rank 0's returns True, all ranks stop at the
        next one. `on_checkpoint` is called on every rank when the state should be saved. Returns whether the budget
        was spent. Raises NonFiniteLoss.
        """
        config, stop = self.config, False
        logged = self.steps
        self._clock = time.perf_counter()
        while self.steps < config.total_steps:
            self.step()
            ended = self.steps == config.total_steps
            if ended or self.steps % config.log_steps == 0:
                progress, stopped = self._log(self.steps - logged, stop)
                logged = self.steps
                if stopped and not ended:
                    return False
                stop = bool(on_log(progress)) if on_log else False
            if on_checkpoint and not ended and self.steps % config.checkpoint_steps == 0:
                on_checkpoint(self)
        return True

    def _log(self, steps: int, stop: bool) -> tuple[Progress, bool]:
        """Average the loss since the last line over all ranks, and agree whether rank 0 was told to stop."""
        sums = torch.stack(
            [self._loss_sum, torch.as_tensor(float(stop), dtype=torch.float64).to(self._loss_sum)]
        )
        self._loss_sum.zero_()
        if self.world.size > 1:
            sums[1] *= self.world.rank == 0
            torch.distributed.all_reduce(sums)
        loss, stopped = sums[0].item() / (steps * self.world.size), sums[1].item() > 0
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"the loss became {loss} within the {steps} steps before {self.images} images"
            )
        self.loss = loss
        now = time.perf_counter()
        speed = steps * self.config.batch_size / max(now - self._clock, 1e-9)
        self._clock = now
        progress = Progress(
            images=self.images,
            loss=loss,
            stage=self.sampler.stage,
            num_stages=self.sampler.num_stages,
            images_per_second=speed,
            snapshot=self.sampler.snapshot(),
        )
        return progress, stopped

    def checkpoint(self) -> Checkpoint:
        """The whole state; every rank must call it. Exact when taken at a logging interval, as `run` does."""
        self.histogram.gather(self.world.rank, self.world.size, self.world.device)
        tensors = {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer, self._parameters),
            "counts": {"sampled": self.histogram.counts},
        }
        weighting = {k: v for k, v in self._parameters.items() if not k.startswith("model.")}
        if weighting:
            tensors["weighting"] = weighting
        state = {
            "config": self.config.model_dump(mode="json"),
            "shape": list(self.data.shape),
            "conditioning": self.data.conditioning.as_json(),
            "vocabulary": list(self.data.vocabulary),
            "images": self.images,
            "loss": self.loss,
            "schedule": self.sampler.state_dict(),
            "stage_starts": self.stage_starts,
        }
        return Checkpoint(tensors=tensors, state=state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`, which must come from the same settings."""
        theirs, ours = checkpoint.state["config"], self.config.model_dump(mode="json")
        if theirs != ours:
            keys = sorted(key for key in ours if theirs.get(key) != ours[key])
            raise ConfigError(
                f"the checkpoint was trained with other settings ({', '.join(keys)}): "
                "resume with the same ones or choose another --output"
            )
        self.model.load_state_dict(checkpoint.tensors["model"])
        self.ema.model.load_state_dict(checkpoint.tensors["ema"])
        restore_optimizer(self.optimizer, self._parameters, checkpoint.tensors["optimizer"])
        with torch.no_grad():
            for name, value in checkpoint.tensors.get("weighting", {}).items():
                self._parameters[name].copy_(value)
        if self.world.rank == 0:
            self.histogram.counts.copy_(checkpoint.tensors["counts"]["sampled"])
        self.sampler.load_state_dict(checkpoint.state["schedule"])
        self.loss = checkpoint.state["loss"]
        self.stage_starts = [list(start) for start in checkpoint.state["stage_starts"]]
