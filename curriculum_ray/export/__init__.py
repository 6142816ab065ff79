"""Trained models in the formats of other libraries."""

from curriculum_ray.export.to_diffusers import export_diffusers

__all__ = ["export_diffusers"]
