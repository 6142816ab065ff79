"""A run's whole state as a checkpoint, and back; sharded tensors are gathered, so the world size may change."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import Ema
from curriculum_ray.training.ema_posthoc import PowerEma
from curriculum_ray.training.histogram import SampledHistogram
from curriculum_ray.training.initial_weights import without_path
from curriculum_ray.training.optimizer_state import optimizer_tensors, restore_optimizer
from curriculum_ray.training.parallel import load_into, local, whole
from curriculum_ray.training.precision import Precision
from curriculum_ray.training.spikes import SpikeGuard
from curriculum_ray.training.world import World

__all__ = ["TrainingState", "capture", "finite", "restore"]


class TrainingState(Protocol):
    """The parts of a `Trainer` that a checkpoint holds, and those that decide whether it fits."""

    config: TrainConfig
    data: Dataset | DataInfo
    world: World
    model: nn.Module
    frozen: frozenset[str]
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: Ema
    power: PowerEma | None
    precision: Precision
    guard: SpikeGuard | None
    sampler: TimestepSampler
    histogram: SampledHistogram
    stage_starts: list[list[int]]
    loss: float | None
    devices: list[str]

    @property
    def images(self) -> int:
        """Images seen so far, over all workers."""
        ...


def finite(run: TrainingState) -> bool:
    """Whether every weight, and every average, is finite on every rank; every rank must call it."""
    power = () if run.power is None else run.power.tensors().values()
    values = (*run.model.parameters(), *run.ema.model.parameters(), *power)
    sound = torch.stack([local(value).detach().isfinite().all() for value in values]).all()
    broken = (~sound).float()
    if run.world.size > 1:
        torch.distributed.all_reduce(broken)
    return broken.item() == 0


def capture(run: TrainingState) -> Checkpoint:
    """The whole state, on rank 0; every rank must call it. Exact when taken at a logging interval, as the loop does."""
    run.histogram.gather(run.world.rank, run.world.size, run.world.device)
    parameters = run.parameters
    lead = run.world.rank == 0
    tensors: dict[str, Any] = {
        "model": whole(_stored(run, run.model), lead),
        "ema": whole(_stored(run, run.ema.model), lead),
        "optimizer": whole(optimizer_tensors(run.optimizer, parameters), lead),
        "counts": {"sampled": run.histogram.counts},
    }
    weighting = {name: value for name, value in parameters.items() if not name.startswith("model.")}
    if weighting:
        tensors["weighting"] = whole(weighting, lead)
    if run.power is not None:
        tensors["power"] = whole(run.power.tensors(), lead)
    state: dict[str, Any] = {
        "config": run.config.model_dump(mode="json"),
        "shape": list(run.data.shape),
        "conditioning": run.data.conditioning.as_json(),
        "vocabulary": list(run.data.vocabulary),
        "images": run.images,
        "loss": run.loss,
        "schedule": run.sampler.state_dict(),
        "stage_starts": run.stage_starts,
        "devices": run.devices,
        "scaler": run.precision.state_dict(),
    }
    if run.guard is not None:
        state["guard"] = run.guard.state_dict()
    return Checkpoint(tensors=tensors, state=state)


def _stored(run: TrainingState, model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of the network or its average: not the weights that stay as `init_from` has them."""
    return {name: value for name, value in model.state_dict().items() if name not in run.frozen}


def restore(run: TrainingState, checkpoint: Checkpoint) -> None:
    """Continue from `checkpoint`, which must have the same settings except `parallel`: it holds whole tensors.

    In a checkpoint older than a setting, its default applies: defaults keep the earlier behaviour.
    """
    written = parse(TrainConfig, checkpoint.state["config"], "the checkpoint's settings")
    theirs, ours = (
        without_path(config.model_dump(mode="json", exclude={"parallel"})) for config in (written, run.config)
    )
    if theirs != ours:
        keys = sorted(key for key in ours if theirs.get(key) != ours[key])
        raise ConfigError(
            f"the checkpoint was trained with other settings ({', '.join(keys)}): "
            "resume with the same ones or choose another --output"
        )
    tensors, state = checkpoint.tensors, checkpoint.state
    load_into(_stored(run, run.model), tensors["model"])
    load_into(_stored(run, run.ema.model), tensors["ema"])
    restore_optimizer(run.optimizer, run.parameters, tensors["optimizer"])
    learned = tensors.get("weighting", {})
    load_into({name: run.parameters[name].detach() for name in learned}, learned)
    if run.power is not None:
        load_into(run.power.tensors(), tensors["power"])
    if run.world.rank == 0:
        run.histogram.counts.copy_(tensors["counts"]["sampled"])
    run.sampler.load_state_dict(state["schedule"])
    run.precision.load_state_dict(state.get("scaler", {}))
    if run.guard is not None:
        run.guard.load_state_dict(state["guard"])
    run.loss = state["loss"]
    run.devices = list(state.get("devices", ()))
    run.stage_starts = [list(start) for start in state["stage_starts"]]
