"""An optimiser's state as named tensors and back, so that it can be stored without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.training.parallel import spread_like

__all__ = ["optimizer_tensors", "restore_optimizer"]

_NUMBER = "#"
"""Ends the name of a number that is stored as a tensor."""
_FIXED = ("params", "lr")
"""Entries of a group that are no state: the rate is set before each step."""


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """State tensors under "<parameter name>/<state name>", e.g. "model.conv.weight/exp_avg".

    Numbers get a name that ends in #; those of the groups of an optimiser that is not torch's are there under
    "<number of the group>/<name>". Anything else raises ConfigError.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[f"{name}/{key}"] = value
            elif isinstance(value, bool | int | float):
                found[f"{name}/{key}{_NUMBER}"] = _as_tensor(value)
            else:
                raise ConfigError(
                    f"the state of {type(optimizer).__name__} must be tensors and numbers to be stored, but {key} is "
                    f"{type(value).__name__}"
                )
    if not type(optimizer).__module__.startswith("torch."):
        for number, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                if key not in _FIXED and isinstance(value, bool | int | float):
                    found[f"{number}/{key}{_NUMBER}"] = _as_tensor(value)
    return found


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Restore what `optimizer_tensors` returned: each tensor on its parameter's device; step counts are not moved."""
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        if key.endswith(_NUMBER):
            target: dict[str, Any] = (
                optimizer.state[parameters[name]] if name in parameters else optimizer.param_groups[int(name)]
            )
            target[key.removesuffix(_NUMBER)] = value.item()
            continue
        parameter = parameters[name]
        device = parameter.device if key != "step" or optimizer.defaults.get("fused") else value.device
        value = value.clone().to(device)
        if value.shape == parameter.shape:
            value = spread_like(parameter, value)
        optimizer.state[parameter][key] = value


def _as_tensor(value: bool | int | float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
