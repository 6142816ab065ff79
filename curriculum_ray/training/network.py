"""The network of a run, with the weights that it starts from and its adapters."""

from __future__ import annotations

from torch import nn

from curriculum_ray.data import Conditioning
from curriculum_ray.models import build_model
from curriculum_ray.models.lora import add_adapters, thaw
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.initial_weights import load_initial

__all__ = ["build_network", "frozen_weights", "start_network"]


def build_network(config: TrainConfig, shape: tuple[int, ...], conditioning: Conditioning) -> nn.Module:
    """The network of a run with its adapters, if any, but with none of the weights that it starts from."""
    model = build_model(config.model, shape, conditioning)
    if config.lora is not None:
        add_adapters(model, config.lora)
    return model


def start_network(
    config: TrainConfig, shape: tuple[int, ...], conditioning: Conditioning, vocabulary: tuple[str, ...] = ()
) -> nn.Module:
    """The network of a run as it is before the first step; what is drawn depends on torch's global seed.

    vocabulary: the words of the data's captions. Where there are adapters, only they require gradients, and the layers
    of a class or caption that were drawn anew. Raises ConfigError, see `load_initial` and `add_adapters`.
    """
    model = build_model(config.model, shape, conditioning)
    anew: frozenset[str] = frozenset()
    if config.init_from is not None:
        anew = load_initial(model, config.init_from, vocabulary)
    if config.lora is not None:
        add_adapters(model, config.lora)
        thaw(model, anew)
    return model


def frozen_weights(config: TrainConfig, model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights beside the adapters of a run, by name, which no checkpoint holds; {} without adapters."""
    if config.lora is None:
        return {}
    return {name: value for name, value in model.named_parameters() if not value.requires_grad}
