"""A worker's place among the workers of its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from curriculum_ray.training.exchange import Alone, Exchange

__all__ = ["World"]


@dataclass(frozen=True)
class World:
    """This worker's place: its rank, how many workers there are, and its device.

    wrap: how a module is wrapped to be trained by all of them. exchange: how they hand each other bytes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    exchange: Exchange = field(default_factory=Alone)
