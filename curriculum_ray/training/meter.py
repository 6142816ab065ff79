"""What a run measures between two log lines; only reading it waits for the device and for the other ranks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from curriculum_ray.training.parallel import full
from curriculum_ray.training.world import World

__all__ = ["Meter", "Window"]


@dataclass(frozen=True)
class Window:
    """The steps between two log lines; equal on every rank except for the time."""

    loss: float
    """Mean over the steps and ranks, unweighted; may not be finite."""
    stop: bool
    """Whether rank 0 asked to stop."""
    seconds: float
    data_wait: float
    """See `Readings`."""
    gradient_norm: float | None
    memory_gib: float | None


class Meter:
    """Adds up on the device, and on the host's clock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=world.device)
        """Of the mean loss of each step."""
        self.gradient_norm: Tensor | None = None
        """Of the last step, shape (); may be sharded."""
        self._waited = 0.0
        self._start = time.perf_counter()

    def start(self) -> None:
        """Begin a window; the loss of steps that were not read remains in it."""
        self._waited, self._start = 0.0, time.perf_counter()
        if self._world.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._world.device)

    def waited(self, since: float) -> None:
        """The host waited for a batch since this time of `time.perf_counter`."""
        self._waited += time.perf_counter() - since

    def leave_out(self, seconds: float) -> None:
        """Do not count this time."""
        self._start += seconds

    def read(self, steps: int, stop: bool) -> Window:
        """End the window of so many steps; every rank must call it. stop: what rank 0 says counts."""
        world, device = self._world, self._world.device
        norm = torch.full((), math.nan, device=device)
        if self.gradient_norm is not None:
            norm = full(self.gradient_norm.detach())
        ours = torch.tensor([float(stop and world.rank == 0), self._waited], dtype=torch.float64)
        sums = torch.cat([self.loss_sum[None], norm.double()[None], ours.to(device)])
        self.loss_sum.zero_()
        if world.size > 1:
            torch.distributed.all_reduce(sums)
        loss, size, stopped, waited = sums.tolist()
        seconds = max(time.perf_counter() - self._start, 1e-9)
        cuda = device.type == "cuda"
        return Window(
            loss=loss / (steps * world.size),
            stop=stopped > 0,
            seconds=seconds,
            data_wait=min(waited / world.size / seconds, 1.0),
            gradient_norm=size / world.size if math.isfinite(size) else None,
            memory_gib=torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None,
        )
