"""Networks that predict noise, image or velocity from a noisy image."""

from curriculum_ray.models.build import ModelSpec, build_model
from curriculum_ray.models.unet import UNet, UNetSpec

__all__ = ["ModelSpec", "UNet", "UNetSpec", "build_model"]
