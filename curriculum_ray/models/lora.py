"""Low-rank adapters on the frozen weights of a network (LoRA, Hu et al. 2022, §4), made by the package peft.

A layer of weight W answers W x + (alpha / rank) B A x. Only A and B are trained; B is zero at first.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

from pydantic import Field, field_validator
from torch import nn

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.config.shown import shown
from curriculum_ray.extras import install_command
from curriculum_ray.models.dit import DiT
from curriculum_ray.models.foreign import DiffusersModel
from curriculum_ray.models.mlp import MLP
from curriculum_ray.models.named_code import in_one_line
from curriculum_ray.models.unet import UNet

__all__ = ["LoraSpec", "adapted_part", "add_adapters", "merged", "thaw"]

_ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_INSIDE = ".base_layer."
"""In the names of the weights of a layer that has an adapter."""
_SHOWN = 16

# Attention and MLP projections by the names that these networks have for them.
_OURS: dict[type[nn.Module], str] = {
    UNet: r"attention\.(qkv|project)|reading\.attention\.(query|key_value|project)",
    DiT: r"blocks\.\d+\.(qkv|project|expand|contract|reading\.(query|key_value|project))",
    MLP: r"blocks\.\d+\.layer[12]",
}
_DIFFUSERS = (
    r"(.*\.)?(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|query|key|value|proj_attn|proj_mlp|"
    r"ff(_context)?\.net\.(0\.proj|2))"
)


class LoraSpec(Spec):
    """Low-rank adapters, which are trained in place of the weights. The rank alone may stand for them: `lora: 8`."""

    rank: int = Field(ge=1, le=4096)
    """Rows of A and columns of B."""
    alpha: float | None = Field(default=None, gt=0)
    """What an adapter adds is multiplied by alpha / rank; if not given, alpha is the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that are zero in training."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of linear layers and convolutions, or their ends (qkv, blocks.0.qkv); if not given, the projections of
    attention and MLPs in a unet, dit, mlp or network of diffusers."""

    @field_validator("targets", mode="before")
    @classmethod
    def _one_may_stand_alone(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def adapted_part(model: nn.Module) -> nn.Module:
    """The module whose layers may have adapters: of a network of diffusers the network itself, without our wrapper."""
    return model.network if isinstance(model, DiffusersModel) else model


def add_adapters(model: nn.Module, spec: LoraSpec) -> None:
    """Freeze `model`, in place, and give the layers of `spec` adapters, which are drawn by torch's global seed.

    Raises ConfigError, one line, where a target is no layer of the network, or peft refuses it.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(f"lora needs the package peft: {install_command('peft')}") from None
    part = adapted_part(model)
    chosen = "|".join(map(re.escape, _targets(part, spec.targets)))
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.rank if spec.alpha is None else spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=chosen,
    )
    model.requires_grad_(False)
    try:
        inject_adapter_in_model(config, part)
    except Exception as error:
        raise ConfigError(f"lora cannot be put on the network: {in_one_line(error)}") from None


def thaw(model: nn.Module, names: Collection[str]) -> None:
    """Train some of the frozen weights too. names: those that they had before `add_adapters`."""
    for name, value in model.named_parameters():
        if name.replace(_INSIDE, ".") in names:
            value.requires_grad_(True)


def merged(part: nn.Module) -> nn.Module:
    """A copy of an `adapted_part` as a plain network: W + (alpha / rank) B A in place of W."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain: Any = copy.deepcopy(part)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            plain.set_submodule(name, layer.get_base_layer())
    del plain.peft_config
    return plain


def _targets(part: nn.Module, wanted: Collection[str] | None) -> list[str]:
    """The names of the layers that get an adapter."""
    names = [name for name, module in part.named_modules() if type(module) in _ADAPTED and name]
    if wanted is None:
        known = _OURS.get(type(part), _DIFFUSERS)
        found = [name for name in names if re.fullmatch(known, name)]
        if not found:
            raise ConfigError(
                "lora.targets must name layers, since this network has no projections of attention or MLPs under known "
                f"names: {_in_words(names)}"
            )
        return found
    for target in wanted:
        if not any(_is(name, target) for name in names):
            raise ConfigError(
                f"lora.targets {shown(target)} is no linear layer or convolution of the network, which has "
                f"{_in_words(names)}"
            )
    return [name for name in names if any(_is(name, target) for target in wanted)]


def _is(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _in_words(names: Collection[str]) -> str:
    """The last part of each name, with what leads it where it is a number."""
    ends = [re.sub(r".*?([^.]*[^.\d][^.]*(\.\d+)*)$", r"\1", name) for name in names]
    distinct = list(dict.fromkeys(ends))
    return ", ".join(distinct[:_SHOWN]) + (", …" if len(distinct) > _SHOWN else "")
