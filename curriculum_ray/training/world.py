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

    wrap: how a module is wrapped to be trained by all of them. exchange: how they hand each other bytes. pieces: in how
    many pieces of the global batch noise is drawn, a multiple of the number of workers, so that it is the same whatever
    that number is; 0 for a piece for each worker.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    exchange: Exchange = field(default_factory=Alone)
    pieces: int = 0

    def device_kinds(self) -> list[str]:
        """The kinds of device of all workers, sorted, e.g. ["NVIDIA A10G"], on rank 0; its own alone on the others.

        Every rank must call it.
        """
        cuda = self.device.type == "cuda"
        own = torch.cuda.get_device_name(self.device) if cuda else self.device.type.upper()
        found = self.exchange.gather(own.encode()) or [own.encode()]
        return sorted({name.decode() for name in found})
