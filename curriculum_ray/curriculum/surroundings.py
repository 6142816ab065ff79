"""A sampler's surroundings: the noise levels of the training loop, the rank of this process, and the default device."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch.utils.data import get_worker_info

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.cells import UncalibratedTimesteps
from curriculum_ray.diffusion.levels import FlowTimes, NoiseLevels, Sigmas

__all__ = [
    "check_at_least",
    "check_process",
    "check_rank_found",
    "noise_levels",
    "on_cpu",
    "place_among_ranks",
]

P = ParamSpec("P")
R = TypeVar("R")


def on_cpu(method: Callable[P, R]) -> Callable[P, R]:
    """Run `method` with the CPU as torch's default device, whichever one the training loop has set.

    Devices that are named, and those of tensors that are passed in, count as ever.
    """

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # Several times faster than torch.get_default_device.
        if torch.empty(0).device.type == "cpu":
            return method(*args, **kwargs)
        with torch.device("cpu"):
            return method(*args, **kwargs)

    return run


def check_at_least(**given: tuple[int | None, int]) -> None:
    """Raise `ConfigError` for values below their minimum; None means not given."""
    for name, (value, least) in given.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, but got {value}")


def check_process() -> None:
    """Refuse a copy of the sampler that receives no updates, and would repeat the same noise levels for ever."""
    if get_worker_info() is not None:
        raise ConfigError(
            "a TimestepSampler cannot be drawn from inside a DataLoader worker: its copy there never hears update(); "
            "draw in the training loop, once a batch"
        )


def noise_levels(
    num_timesteps: int | None, sigma: bool, flow: bool, levels: NoiseLevels | None
) -> NoiseLevels:
    """The noise levels given by exactly one of the arguments; see `TimestepSampler`."""
    given = sum((num_timesteps is not None, sigma, flow, levels is not None))
    if given != 1:
        raise ConfigError(
            f"exactly one of num_timesteps, sigma, flow and levels must be given, but got {given}"
        )
    if num_timesteps is not None:
        return UncalibratedTimesteps(num_timesteps)
    if levels is not None:
        return levels
    return Sigmas() if sigma else FlowTimes()


def place_among_ranks(
    rank: int | None, world_size: int | None, group: dist.ProcessGroup | None
) -> tuple[int, int]:
    """This process's rank and the number of ranks: as given, else those of torch.distributed, else 0 of 1."""
    if (rank is None) != (world_size is None):
        raise ConfigError("rank and world_size must be given together")
    if rank is None or world_size is None:
        if not (dist.is_available() and dist.is_initialized()):
            return 0, 1
        return dist.get_rank(group), dist.get_world_size(group)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be in 0..{world_size - 1}, but got {rank}")
    return rank, world_size


def check_rank_found(rank: int, world_size: int, group: dist.ProcessGroup | None) -> None:
    """Refuse a rank and a number of ranks, found when the sampler was made, that torch.distributed now contradicts."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    now = dist.get_rank(group), dist.get_world_size(group)
    if now != (rank, world_size):
        raise ConfigError(
            f"the sampler was made for rank {rank} of world_size {world_size}, but torch.distributed has rank {now[0]} "
            f"of {now[1]}: create it after torch.distributed is initialised, or give rank and world_size"
        )
