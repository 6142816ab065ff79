"""Gradient checkpointing (Chen et al. 2016): the inside of a block is computed again in the backward pass, not kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from curriculum_ray.config import ConfigError

__all__ = ["RecomputedBlocks", "recompute_blocks"]


class RecomputedBlocks(nn.Module):
    """A network of blocks that draw no random numbers, each of which keeps only its inputs if `recomputed`."""

    recomputed = False

    def block(self, block: nn.Module, *inputs: Any) -> Any:
        """Call `block` with its inputs."""
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)


def recompute_blocks(model: nn.Module) -> None:
    """Switch gradient checkpointing on; ConfigError for a network that has none."""
    network: Any = getattr(model, "network", None)
    if isinstance(model, RecomputedBlocks):
        model.recomputed = True
    elif getattr(network, "_supports_gradient_checkpointing", False):
        network.enable_gradient_checkpointing()
    else:
        what = type(model if network is None else network).__name__
        raise ConfigError(
            f"gradient_checkpointing is for a unet, a dit or a network of diffusers with it, not for {what}"
        )
