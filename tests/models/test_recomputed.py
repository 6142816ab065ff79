"""Gradient checkpointing keeps less and computes the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Conditioning
from curriculum_ray.models import ModelSpec, build_model
from curriculum_ray.models.recomputed import recompute_blocks
from curriculum_ray.training.config import TrainConfig

UNET2D = {
    "block_out_channels": [8, 8],
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
}
WORDS = Conditioning("tokens", 5, 3)


def _gradients(model: nn.Module, condition: Tensor | None) -> tuple[list[Tensor], int]:
    """The gradients of a loss, and how many bytes the forward pass kept for them."""
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    torch.manual_seed(1)
    x = torch.randn(4, 1, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = (model(x, torch.tensor([1.0, 10.0, 100.0, 900.0]), condition) - 1).square().mean()
    weights = list(model.parameters())
    size = sum(value.untyped_storage().nbytes() for value in kept)
    return [g for g in torch.autograd.grad(loss, weights, allow_unused=True) if g is not None], size


@pytest.mark.parametrize(
    ("settings", "conditioning"),
    [
        ({"kind": "unet", "base_channels": 8}, WORDS),
        ({"kind": "dit", "depth": 3, "width": 32, "heads": 2}, WORDS),
        ({"kind": "diffusers", "class_name": "UNet2DModel", "config": UNET2D}, None),
    ],
)
def test_gradients_are_the_same_and_less_is_kept(
    settings: dict[str, Any], conditioning: Conditioning | None
) -> None:
    if settings["kind"] == "diffusers":
        pytest.importorskip("diffusers")
    torch.manual_seed(0)
    spec = TypeAdapter(ModelSpec).validate_python(settings)
    model = build_model(spec, (1, 8, 8), conditioning) if conditioning else build_model(spec, (1, 8, 8))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    condition = torch.randint(1, 5, (4, 3)) if conditioning else None
    expected, whole = _gradients(model, condition)
    recompute_blocks(model)
    found, less = _gradients(model, condition)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert less < 0.7 * whole


def test_networks_without_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gradient_checkpointing is for a unet, .*, but model.kind is mlp"):
        parse(
            TrainConfig,
            {"gradient_checkpointing": True, "model": {"kind": "mlp"}, "data": {"name": "mixture2d"}},
            "settings",
        )
    with pytest.raises(ConfigError, match=r"or a network of diffusers with it, not for Linear"):
        recompute_blocks(nn.Linear(2, 2))
