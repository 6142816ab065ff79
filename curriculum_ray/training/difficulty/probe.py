"""Probe models: short training runs, observed interval by interval, that show which noise levels are hard to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.curriculum.base import BaseSpec, default_base, level_of
from curriculum_ray.data import NO_CONDITIONING, Dataset, DataSpec
from curriculum_ray.data.dataset import as_float
from curriculum_ray.diffusion import DDPMSpec, Process, ProcessSpec, build_process
from curriculum_ray.models import ModelSpec, UNetSpec, build_model
from curriculum_ray.splitmix import mix
from curriculum_ray.training.difficulty.gradients import GradientMoments, gradient_moments
from curriculum_ray.training.prediction import with_prediction
from curriculum_ray.training.rates import OptimizerSpec

__all__ = ["ProbeRun", "ProbeSpec", "evaluation_steps", "train_probe"]

# Separate random streams of a seed, so that all of its intervals start from the same weights.
_MODEL, _TRAINING, _WATCHED, _GRADIENTS = range(4)


class ProbeSpec(Spec):
    """How probe models are trained and observed; K equal intervals of u cover [0, 1), the first is the cleanest."""

    data: DataSpec = DataSpec()
    """The images to learn."""
    process: ProcessSpec = DDPMSpec()
    """The diffusion process and what the network predicts; the default follows the data, as in training."""
    base: BaseSpec | None = None
    """The base distribution whose u is divided into intervals; by default EDM's for sigmas, else uniform."""
    model: ModelSpec = UNetSpec()
    """The network; unlike in training, it sees no class or caption unless `conditional` is true."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """AdamW at a constant rate after the warm-up: its rate, betas, weight decay, warm-up and gradient clipping."""
    intervals: int = Field(default=10, ge=2, le=100)
    """K, the number of intervals of u."""
    steps: int = Field(default=1000, ge=20, le=1_000_000)
    """Optimiser steps of each probe model."""
    batch_size: int = Field(default=128, ge=1, le=1_000_000)
    """Images per step."""
    watched: int = Field(default=128, ge=2, le=1_000_000)
    """Noisy images per interval whose loss is followed; the same ones throughout."""
    gradient_batches: int = Field(default=8, ge=2, le=1_000_000)
    """Small batches per interval from which gradients and their noise are estimated."""
    gradient_batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Images in each of them."""
    gradient_points: int = Field(default=8, ge=1, le=1_000_000)
    """Evenly spaced points of training at which gradients are measured; the last is its end."""

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """DDPM and a unet unless said; what the network predicts follows the data."""
        groups = {"process": with_prediction(values.get("process", {}), values.get("data"))}
        if isinstance(values.get("model"), Mapping):
            groups["model"] = {"kind": UNetSpec().kind, **values["model"]}
        return {**values, **groups}

    @model_validator(mode="after")
    def _items_as_they_are(self) -> ProbeSpec:
        if self.data.flip or self.data.crop is not None:
            raise ValueError(
                "data.flip and data.crop are for training: difficulty is that of items as they are"
            )
        return self

    @model_validator(mode="after")
    def _adamw_at_a_constant_rate(self) -> ProbeSpec:
        plain = OptimizerSpec()
        for name in ("kind", "options", "schedule"):
            if getattr(self.optimizer, name) != getattr(plain, name):
                raise ValueError(
                    f"optimizer.{name} must be left out: probe models are trained by AdamW at a constant learning rate"
                )
        return self

    @model_validator(mode="after")
    def _dropout_of_what_is_seen(self) -> ProbeSpec:
        if getattr(self.model, "asks_for_dropout", False) and not self.model.conditional:
            raise ValueError(
                "model.label_dropout is for probe models that see the condition: set model.conditional to true"
            )
        return self

    @property
    def distribution(self) -> BaseSpec:
        """The base distribution, as given or by default."""
        return self.base or default_base(self.process.kind)

    def check_intervals(self) -> None:
        """Raise ConfigError where an interval would hold no timestep: only those who train probe models care."""
        if self.process.kind == "ddpm" and self.intervals > self.process.num_timesteps:
            count = self.process.num_timesteps
            raise ConfigError(f"intervals must be at most the {count} timesteps, but got {self.intervals}")

    @property
    def gradient_images(self) -> int:
        """Images per interval used to measure gradients, over the whole run."""
        return self.gradient_points * self.gradient_batches * self.gradient_batch_size


@dataclass(frozen=True)
class ProbeRun:
    """The measurements of one probe model.

    seed: its seed. interval: the interval of u it was trained on, or None for all of them.
    steps: optimiser steps at which losses were read, E values from 0 to the last.
    losses (Tensor): unweighted mean squared errors, float64, shape (E, K), or (E, 1) for one interval.
    gradients: one entry per measured point of training; empty where not requested.
    """

    seed: int
    interval: int | None
    steps: tuple[int, ...]
    losses: Tensor
    gradients: tuple[GradientMoments, ...] = ()


def evaluation_steps(total: int) -> list[int]:
    """Steps at which losses are read: 0, each of the first ten, then 10% apart, at most 1/40 of the run."""
    steps = [0]
    while steps[-1] < total:
        stride = max(1, min(round(0.1 * steps[-1]), total // 40))
        steps.append(min(steps[-1] + stride, total))
    return steps


def train_probe(
    spec: ProbeSpec,
    data: Dataset,
    seed: int,
    interval: int | None = None,
    *,
    gradients: bool = False,
    device: str | torch.device = "cpu",
) -> ProbeRun:
    """Train one probe model on one interval of u (0 is the cleanest), or on all of them, and record its losses.

    A seed fixes the initial weights, so that all intervals start from one model, and the watched images of each
    interval, so that a shared model and the interval's own model are measured alike. Noise levels are stratified in
    each batch. Raises ConfigError where a loss becomes infinite, and for more intervals than timesteps.
    """
    spec.check_intervals()
    torch.manual_seed(mix(seed, _MODEL))
    process = build_process(spec.process)
    model = build_model(
        spec.model, data.shape, data.conditioning if spec.model.conditional else NO_CONDITIONING
    )
    batches = _Batches(spec, data, process.to(device), model.to(device))
    watched_intervals = range(spec.intervals) if interval is None else [interval]
    torch.manual_seed(mix(seed, _WATCHED))
    every = [batches.draw(k, spec.watched) for k in range(spec.intervals)]
    watched = [every[k] for k in watched_intervals]
    wanted = evaluation_steps(spec.steps)
    points = spec.gradient_points if gradients else 0
    measured_at = {round(spec.steps * (n + 1) / points) for n in range(points)}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=spec.optimizer.learning_rate,
        betas=spec.optimizer.betas,
        weight_decay=spec.optimizer.weight_decay,
    )
    losses = [batches.read(watched)]
    moments = []
    for step in range(1, spec.steps + 1):
        torch.manual_seed(mix(seed, _TRAINING, step))
        loss = batches.loss(batches.draw(interval, spec.batch_size))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), spec.optimizer.clip_grad_norm)
        warmup = spec.optimizer.warmup_images
        share = min(1.0, step * spec.batch_size / warmup) if warmup else 1.0
        for group in optimizer.param_groups:
            group["lr"] = spec.optimizer.learning_rate * share
        optimizer.step()
        if step in wanted:
            losses.append(batches.read(watched))
            if not bool(losses[-1].isfinite().all()):
                raise ConfigError(f"the loss is not finite after {step} steps: lower the learning rate")
        if step in measured_at:
            torch.manual_seed(mix(seed, _GRADIENTS, step))
            moments.append(_measure_gradients(spec, model, batches, step))
    return ProbeRun(seed, interval, tuple(wanted), torch.stack(losses), tuple(moments))


@dataclass(frozen=True)
class _Batch:
    """Items (B, *shape), native levels (B,), noise (B, *shape) and condition or None."""

    x0: Tensor
    levels: Tensor
    noise: Tensor
    condition: Tensor | None


class _Batches:
    """Draws batches of an interval of u with the default generator, and measures their losses."""

    def __init__(self, spec: ProbeSpec, data: Dataset, process: Process, model: nn.Module) -> None:
        self.spec, self.process, self.model = spec, process, model
        device = next(model.parameters()).device
        self.images = data.stored.to(device)
        conditional = spec.model.conditional and data.condition is not None
        self.condition = data.condition.to(device) if conditional and data.condition is not None else None

    def draw(self, interval: int | None, size: int) -> _Batch:
        """`size` random images at levels stratified over the interval, or over all u for None."""
        indices = torch.randint(len(self.images), (size,))
        u = (torch.arange(size, dtype=torch.float64) + torch.rand((), dtype=torch.float64)) / size
        if interval is not None:
            u = (interval + u) / self.spec.intervals
        noise = torch.randn(size, *self.images.shape[1:])
        device = self.images.device
        levels = level_of(self.spec.distribution, u, self.process.levels).to(device)
        levels = levels.float() if levels.is_floating_point() else levels
        condition = None if self.condition is None else self.condition[indices.to(device)]
        return _Batch(as_float(self.images[indices.to(device)]), levels, noise.to(device), condition)

    def loss(self, batch: _Batch) -> Tensor:
        """The mean loss of a batch, to be differentiated."""
        return self.process.losses(self.model, batch.x0, batch.levels, batch.noise, batch.condition)[0].mean()

    @torch.no_grad()
    def read(self, watched: list[_Batch]) -> Tensor:
        """The mean squared error of each watched batch, float64 on the CPU, shape (len(watched),)."""
        self.model.eval()
        losses = [
            self.process.losses(self.model, batch.x0, batch.levels, batch.noise, batch.condition)[1].mean()
            for batch in watched
        ]
        self.model.train()
        return torch.stack(losses).double().cpu()


def _measure_gradients(spec: ProbeSpec, model: nn.Module, batches: _Batches, step: int) -> GradientMoments:
    """The gradients of each interval's loss at the current weights; leaves the model unchanged."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradient(interval: int) -> Tensor:
        loss = batches.loss(batches.draw(interval, spec.gradient_batch_size))
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])

    return gradient_moments(
        gradient,
        intervals=spec.intervals,
        batches=spec.gradient_batches,
        batch_size=spec.gradient_batch_size,
        step=step,
    )
