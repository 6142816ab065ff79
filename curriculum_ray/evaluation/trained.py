"""A trained model from a checkpoint, for sampling and evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.config.shown import shown
from curriculum_ray.data import Conditioning, LatentShape
from curriculum_ray.diffusion import Process, build_process
from curriculum_ray.models import check_named_code
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.network import build_network, frozen_weights, start_network
from curriculum_ray.training.precision import allow_tf32

__all__ = ["Trained", "load_trained", "resolve_checkpoint"]

_LARGEST_ITEM = 2**28
"""Numbers of one item: a GiB of fp32, far beyond the 3 x 1024 x 1024 of the largest images."""


@dataclass(frozen=True)
class Trained:
    """A process and its denoiser from a checkpoint; `shape` is that of one item, as `Dataset.shape`."""

    config: TrainConfig
    process: Process
    model: nn.Module
    shape: tuple[int, ...]
    conditioning: Conditioning
    """The condition that the model takes."""
    images: int
    path: Path
    vocabulary: tuple[str, ...] = ()
    """Vocabulary of its captions; empty without captions as tokens."""

    def to(self, device: torch.device | str) -> Trained:
        """The same on `device`, where it draws in the arithmetic of its run, see `TrainConfig.tf32`."""
        device = torch.device(device)
        allow_tf32(device, self.config.tf32)
        return replace(self, process=self.process.to(device), model=self.model.to(device))


def resolve_checkpoint(path: Path, option: str = "--checkpoint") -> Path:
    """Return `path` if it is a checkpoint, or the newest intact checkpoint of the run whose folder it is.

    option: what names the path, for the ConfigError where there is none.
    """
    if not path.exists():
        raise ConfigError(f"{option} {path} does not exist")
    found = checkpoints.checkpoint_in(path, f"{option} {path}")
    if found is None:
        raise ConfigError(f"{option} {path} is neither a checkpoint nor a run's folder with one")
    return found


def load_trained(
    path: Path, ema: bool = True, device: torch.device | str = "cpu", *, trust_code: bool = False
) -> Trained:
    """Load the averaged weights, or with `ema` off the raw ones, of a checkpoint or of a run's newest one.

    With adapters, the weights that they stand on are read from where the run took them, `init_from.path`.
    trust_code: whether to import a network that the checkpoint names by its import path; if not, ConfigError.
    """
    path = resolve_checkpoint(path)
    group = "ema" if ema else "model"
    content = checkpoints.read(path, groups=(group,))
    try:
        state = content.state
        config = parse(TrainConfig, state["config"], f"{path}/state.json, config")
        lengths = tuple(int(length) for length in state["shape"])
        if min(lengths, default=0) < 1 or math.prod(lengths) > _LARGEST_ITEM:
            raise ConfigError(
                f"checkpoint {path} is corrupt: its items must have 1 to {_LARGEST_ITEM:,} numbers, but shape in its "
                f"state.json is {shown(list(lengths))}"
            )
        shape = LatentShape(lengths) if config.data.format == "latents" else lengths
        conditioning = Conditioning.from_json(state["conditioning"])
        images, vocabulary = int(state["images"]), tuple(map(str, state.get("vocabulary", ())))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"checkpoint {path} is corrupt: its state.json is incomplete ({error!r})") from None
    check_named_code({"model": config.model.model_dump()}, f"checkpoint {path}", trusted=trust_code)
    if config.lora is None:
        model = build_network(config, shape, conditioning)
    else:
        model = start_network(config, shape, conditioning, vocabulary)
    try:
        weights: dict[str, Tensor] = {**frozen_weights(config, model), **content.tensors[group]}
        model.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"the weights of checkpoint {path} do not match its settings: {reason}") from None
    taken = model.conditioning
    assert isinstance(taken, Conditioning)
    trained = Trained(
        config=config,
        process=build_process(config.process, config.weighting),
        model=model.eval(),
        shape=shape,
        conditioning=taken,
        images=images,
        path=path,
        vocabulary=vocabulary,
    )
    return trained.to(device)
