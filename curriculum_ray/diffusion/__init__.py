"""Diffusion processes, their noise levels, loss weightings and generation."""

from curriculum_ray.diffusion.build import ProcessSpec, WeightingSpec, build_process
from curriculum_ray.diffusion.ddpm import DDPM, DDPMSpec
from curriculum_ray.diffusion.edm import EDM, EDMSpec
from curriculum_ray.diffusion.flow import Flow, FlowSpec
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, NoiseLevels, Sigmas
from curriculum_ray.diffusion.process import Denoiser, Objective, Process

__all__ = [
    "DDPM",
    "EDM",
    "DDPMSpec",
    "Denoiser",
    "DiscreteTimesteps",
    "EDMSpec",
    "Flow",
    "FlowSpec",
    "FlowTimes",
    "NoiseLevels",
    "Objective",
    "Process",
    "ProcessSpec",
    "Sigmas",
    "WeightingSpec",
    "build_process",
]
