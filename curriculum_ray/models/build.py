"""The registry of networks: from settings to a module."""

from __future__ import annotations

from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models.unet import UNet, UNetSpec, build_unet

__all__ = ["ModelSpec", "build_model"]

ModelSpec = UNetSpec


def build_model(
    spec: ModelSpec, data_shape: tuple[int, ...], conditioning: Conditioning = NO_CONDITIONING
) -> UNet:
    """Make the network of `spec` for items of `data_shape`, (C, H, W) for images.

    conditioning: what the data have to tell. The module is called as model(x (B, *data_shape), noise_cond (B,) float,
    condition or None) -> (B, *data_shape); its attribute `conditioning` says what it takes. Settings that do not
    fit the data raise `ConfigError`.
    """
    return build_unet(spec, data_shape, conditioning)
