"""The workers of a command that draws samples or reads data, rather than training."""

from __future__ import annotations

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.resources import ResourceSpec
from tuning.cli.options import read_settings

__all__ = ["worker_resources"]


def worker_resources(num_workers: int | tuple[int, int] | None, use_gpu: bool | None) -> ResourceSpec:
    """The resources of --num-workers, which must be one number, and --use-gpu."""
    if isinstance(num_workers, tuple):
        raise ConfigError(
            f"--num-workers must be one number here, because only training adapts to the cluster, but got "
            f"{num_workers[0]}-{num_workers[1]}"
        )
    options = {"num_workers": ("--num-workers", num_workers), "use_gpu": ("--use-gpu", use_gpu)}
    return read_settings(ResourceSpec, None, (), options)
