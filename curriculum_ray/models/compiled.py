"""torch.compile of a network: of the whole, or of its blocks, one of which is compiled for all that are alike."""

from __future__ import annotations

from typing import Any

from torch import nn

from curriculum_ray.config import ConfigError
from curriculum_ray.models.dit import DiT

__all__ = ["compile_blocks", "compile_network", "repeated_blocks"]


def compile_network(model: nn.Module) -> None:
    """Compile `model` as one graph, in place; the time for that grows with its depth."""
    model.compile(dynamic=False)


def compile_blocks(model: nn.Module) -> None:
    """Compile the blocks of `model`, in place: blocks that are alike share what is compiled, whatever their number.

    What stands around the blocks is not compiled. ConfigError as in `repeated_blocks`.
    """
    for block in repeated_blocks(model):
        block.compile(dynamic=False)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a DiT, or those that a network of diffusers declares as repeated; ConfigError for others."""
    if isinstance(model, DiT):
        return list(model.blocks)
    network: Any = getattr(model, "network", model)
    names = getattr(network, "_repeated_blocks", None) or []
    found = [module for module in network.modules() if type(module).__name__ in names]
    if not found:
        raise ConfigError(
            "compile blocks is for a dit, or a network of diffusers that declares repeated blocks, not for "
            f"{type(network).__name__}"
        )
    return found
