"""Random numbers as a function of (seed, rank, images), so that a resumed run repeats the uninterrupted one."""

from __future__ import annotations

import torch

from curriculum_ray.splitmix import mix

__all__ = ["seed_step"]


def seed_step(seed: int, rank: int, images: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of `device` for the step that starts after `images` images.

    Equivalent to `torch.manual_seed`, which also formats a stack trace for each kind of accelerator that is not
    initialised: 0.2 ms a step.
    """
    number = mix(seed, rank, images)
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(number)
        return
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)
