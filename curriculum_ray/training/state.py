"""A trainer's whole state as a checkpoint, and back; sharded tensors are gathered, so that world size is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.optimizer_state import optimizer_tensors, restore_optimizer
from curriculum_ray.training.parallel import load_into, local, whole

if TYPE_CHECKING:
    from curriculum_ray.training.loop import Trainer

__all__ = ["capture", "finite", "restore"]


def finite(trainer: Trainer) -> bool:
    """Whether every weight, and every average, is finite on every rank; every rank must call it."""
    power = () if trainer.power is None else trainer.power.tensors().values()
    values = (*trainer.model.parameters(), *trainer.ema.model.parameters(), *power)
    sound = torch.stack([local(value).detach().isfinite().all() for value in values]).all()
    broken = (~sound).float()
    if trainer.world.size > 1:
        torch.distributed.all_reduce(broken)
    return broken.item() == 0


def capture(trainer: Trainer) -> Checkpoint:
    """The whole state, on rank 0; every rank must call it. Exact when taken at a logging interval, as `run` does."""
    trainer.histogram.gather(trainer.world.rank, trainer.world.size, trainer.world.device)
    parameters = trainer.parameters
    lead = trainer.world.rank == 0
    tensors: dict[str, Any] = {
        "model": whole(trainer.model.state_dict(), lead),
        "ema": whole(trainer.ema.model.state_dict(), lead),
        "optimizer": whole(optimizer_tensors(trainer.optimizer, parameters), lead),
        "counts": {"sampled": trainer.histogram.counts},
    }
    weighting = {name: value for name, value in parameters.items() if not name.startswith("model.")}
    if weighting:
        tensors["weighting"] = whole(weighting, lead)
    if trainer.power is not None:
        tensors["power"] = whole(trainer.power.tensors(), lead)
    state: dict[str, Any] = {
        "config": trainer.config.model_dump(mode="json"),
        "shape": list(trainer.data.shape),
        "conditioning": trainer.data.conditioning.as_json(),
        "vocabulary": list(trainer.data.vocabulary),
        "images": trainer.images,
        "loss": trainer.loss,
        "schedule": trainer.sampler.state_dict(),
        "stage_starts": trainer.stage_starts,
        "scaler": trainer.precision.state_dict(),
    }
    if trainer.guard is not None:
        state["guard"] = trainer.guard.state_dict()
    return Checkpoint(tensors=tensors, state=state)


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Continue from `checkpoint`, which must come from the same settings, but for `parallel`: it holds whole tensors.

    A checkpoint of before a setting existed has its default: every default trains as it was before.
    """
    written = parse(TrainConfig, checkpoint.state["config"], "the checkpoint's settings")
    theirs, ours = (
        config.model_dump(mode="json", exclude={"parallel"}) for config in (written, trainer.config)
    )
    if theirs != ours:
        keys = sorted(key for key in ours if theirs.get(key) != ours[key])
        raise ConfigError(
            f"the checkpoint was trained with other settings ({', '.join(keys)}): "
            "resume with the same ones or choose another --output"
        )
    tensors, state = checkpoint.tensors, checkpoint.state
    load_into(trainer.model.state_dict(), tensors["model"])
    load_into(trainer.ema.model.state_dict(), tensors["ema"])
    restore_optimizer(trainer.optimizer, trainer.parameters, tensors["optimizer"])
    learned = tensors.get("weighting", {})
    load_into({name: trainer.parameters[name].detach() for name in learned}, learned)
    if trainer.power is not None:
        load_into(trainer.power.tensors(), tensors["power"])
    if trainer.world.rank == 0:
        trainer.histogram.counts.copy_(tensors["counts"]["sampled"])
    trainer.sampler.load_state_dict(state["schedule"])
    trainer.precision.load_state_dict(state.get("scaler", {}))
    if trainer.guard is not None:
        trainer.guard.load_state_dict(state["guard"])
    trainer.loss = state["loss"]
    trainer.stage_starts = [list(start) for start in state["stage_starts"]]
