"""An optimiser's state as named tensors and back, so that it can be stored without pickle."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from curriculum_ray.training.parallel import spread_like

__all__ = ["optimizer_tensors", "restore_optimizer"]


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """State tensors under "<parameter name>/<state name>", e.g. "model.conv.weight/exp_avg"."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Restore what `optimizer_tensors` returned: each tensor on its parameter's device; step counts are not moved."""
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        device = parameter.device if key != "step" or optimizer.defaults.get("fused") else value.device
        value = value.clone().to(device)
        if key != "step":
            value = spread_like(parameter, value)
        optimizer.state[parameter][key] = value
