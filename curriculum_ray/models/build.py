"""The registry of networks: from settings to a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from curriculum_ray.config import Shorthand
from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models.dit import DiTSpec, build_dit
from curriculum_ray.models.foreign import (
    DiffusersSpec,
    PythonSpec,
    build_diffusers,
    build_python,
)
from curriculum_ray.models.mlp import MLPSpec, build_mlp
from curriculum_ray.models.unet import UNetSpec, build_unet

__all__ = ["ModelSpec", "build_model", "check_model"]


def _network(short: Any) -> Any:
    """The settings that `dit-S/2`, `diffusers:UNet2DModel`, `python:package.module.Class` or a kind stand for."""
    if not isinstance(short, str):
        return short
    if short.startswith("dit-"):
        return {"kind": "dit", "size": short.removeprefix("dit-")}
    kind, colon, name = short.partition(":")
    if colon and kind == "diffusers":
        return {"kind": "diffusers", "class_name": name}
    if colon and kind == "python":
        return {"kind": "python", "path": name}
    return {"kind": short}


ModelSpec = Annotated[
    UNetSpec | DiTSpec | MLPSpec | DiffusersSpec | PythonSpec,
    Field(discriminator="kind"),
    Shorthand(_network),
]
"""A network's settings; `dit-S/2`, `diffusers:UNet2DModel` and `python:package.module.Class` are short for some."""


def build_model(
    spec: ModelSpec, data_shape: tuple[int, ...], conditioning: Conditioning = NO_CONDITIONING
) -> nn.Module:
    """Build the network of `spec` for items of `data_shape`, (C, H, W) for images.

    conditioning: that of the data. The module is called as model(x (B, *data_shape), noise_cond (B,) float,
    condition or None) -> (B, *data_shape); its attribute `conditioning` describes the condition it takes.
    Settings that do not fit the data raise `ConfigError`.
    """
    match spec:
        case UNetSpec():
            return build_unet(spec, data_shape, conditioning)
        case DiTSpec():
            return build_dit(spec, data_shape, conditioning)
        case MLPSpec():
            return build_mlp(spec, data_shape, conditioning)
        case DiffusersSpec():
            return build_diffusers(spec, data_shape, conditioning)
        case PythonSpec():
            return build_python(spec, data_shape, conditioning)


def check_model(
    spec: ModelSpec, data_shape: tuple[int, ...], conditioning: Conditioning = NO_CONDITIONING
) -> None:
    """Raise what `build_model` would; a network of this project takes neither memory nor time for its weights."""
    if isinstance(spec, DiffusersSpec | PythonSpec):
        build_model(spec, data_shape, conditioning)
        return
    with torch.device("meta"), _Uninitialised():
        build_model(spec, data_shape, conditioning)


class _Uninitialised(TorchFunctionMode):
    """Leaves tensors as they are where torch.nn.init would fill them; on the meta device that imports torch's compiler,
    which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == init.__name__:
            return args[0] if args else named["tensor"]
        return func(*args, **named)
