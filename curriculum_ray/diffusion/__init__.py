"""Diffusion processes, their noise levels, loss weightings and generation."""

from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, NoiseLevels, Sigmas

__all__ = ["DiscreteTimesteps", "FlowTimes", "NoiseLevels", "Sigmas"]
