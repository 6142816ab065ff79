"""Base distributions over noise levels, each as a quantile function Q(u), u -> 0 clean and u -> 1 noise."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from curriculum_ray.curriculum.base.changing import Changing, FixedBaseSpec
from curriculum_ray.curriculum.base.core import Base, FixedBase, Quantile
from curriculum_ray.curriculum.base.noise import EDM, EDM2, LaplaceLogSnr, LogNormalSigma
from curriculum_ray.curriculum.base.shifted import FluxShifted, Shifted, SqrtShifted, TimeBaseSpec
from curriculum_ray.curriculum.base.speed import Speed
from curriculum_ray.curriculum.base.time import Asymmetric, Beta, CosMap, LogitNormal, Mode, Normal, Uniform
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = [
    "EDM",
    "EDM2",
    "Asymmetric",
    "Base",
    "BaseSpec",
    "Beta",
    "Changing",
    "CosMap",
    "FixedBase",
    "FixedBaseSpec",
    "FluxShifted",
    "LaplaceLogSnr",
    "LogNormalSigma",
    "LogitNormal",
    "Mode",
    "Normal",
    "Quantile",
    "Shifted",
    "Speed",
    "SqrtShifted",
    "TimeBaseSpec",
    "Uniform",
    "default_base",
    "level_of",
    "u_of",
]

BaseSpec = Annotated[FixedBaseSpec | Changing, Field(discriminator="kind")]


def default_base(process: str) -> BaseSpec:
    """The base distribution of a kind of process where none is given: EDM's for edm, uniform times for the others."""
    return EDM if process == "edm" else Uniform()


def level_of(base: Base, u: Tensor, levels: NoiseLevels) -> Tensor:
    """Map u in [0, 1) (float64, any shape; 1 is noise) through Q to the process's native levels.

    Raises ValueError where the base distribution does not apply (a distribution over time on sigmas).
    """
    return base.to_levels(u, levels)


def u_of(base: Base, level: Tensor, levels: NoiseLevels) -> Tensor:
    """Map continuous native levels back to u in [0, 1], 1 is noise; the inverse of `level_of`."""
    return base.to_u(level, levels)
