"""The registry of networks: from settings to a module."""

from __future__ import annotations

from curriculum_ray.models.unet import UNet, UNetSpec, build_unet

__all__ = ["ModelSpec", "build_model"]

ModelSpec = UNetSpec


def build_model(spec: ModelSpec, data_shape: tuple[int, int, int], num_classes: int | None = None) -> UNet:
    """Make the network of `spec` for images of `data_shape` (C, H, W).

    num_classes: of the data, None without labels. The module is called as model(x (B,C,H,W), noise_cond (B,)
    float, labels (B,) long or None) -> (B,C,H,W); its attribute `num_classes` is None if it takes no labels.
    Settings that do not fit the data raise `ConfigError`.
    """
    return build_unet(spec, data_shape, num_classes)
