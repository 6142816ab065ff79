"""The registry of networks: from settings to a module."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

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

__all__ = ["ModelSpec", "build_model", "check_model", "normalise_model"]

ModelSpec = Annotated[
    UNetSpec | DiTSpec | MLPSpec | DiffusersSpec | PythonSpec,
    Field(discriminator="kind"),
]


def normalise_model(values: Any, default: Mapping[str, Any] = MappingProxyType({"kind": "unet"})) -> Any:
    """Expand a network's shorthand to the mapping that `ModelSpec` reads.

    `dit-S/2`, `diffusers:UNet2DModel`, `python:package.module.Class`, `unet`, `mlp` and `dit` stand for a
    mapping with `kind`; a mapping without `kind` updates the `default`. Other values are returned unchanged.
    """
    if isinstance(values, Mapping):
        return dict(values) if "kind" in values else {**default, **values}
    if not isinstance(values, str):
        return values
    if values.startswith("dit-"):
        return {"kind": "dit", "size": values.removeprefix("dit-")}
    kind, colon, name = values.partition(":")
    if colon and kind == "diffusers":
        return {"kind": "diffusers", "class_name": name}
    if colon and kind == "python":
        return {"kind": "python", "path": name}
    return {"kind": values}


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
