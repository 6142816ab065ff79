"""Adapters are nothing at first, are all that is trained, and can be merged into the weights that they stand on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models import build_model
from curriculum_ray.models.lora import LoraSpec, adapted_part, add_adapters, merged
from curriculum_ray.training.config import TrainConfig
from tests.models.networks import UNET_CONDITION

pytest.importorskip("peft")

WORDS = Conditioning("tokens", 5, 3)
NETWORKS: dict[str, tuple[Any, tuple[int, ...], Conditioning, set[str]]] = {
    "unet": ({"kind": "unet", "base_channels": 8}, (1, 8, 8), NO_CONDITIONING, {"qkv", "project"}),
    "dit": (
        {"kind": "dit", "depth": 2, "width": 16, "heads": 2},
        (1, 8, 8),
        WORDS,
        {"qkv", "project", "expand", "contract", "query", "key_value"},
    ),
    "diffusers": (
        UNET_CONDITION,
        (1, 8, 8),
        NO_CONDITIONING,
        {"to_q", "to_k", "to_v", "0", "proj", "2"},
    ),
}


def _network(name: str) -> nn.Module:
    """With random weights in every layer: those that start at zero would hide what comes before them."""
    spec, shape, conditioning, _ = NETWORKS[name]
    torch.manual_seed(0)
    model = build_model(parse(TrainConfig, {"model": spec}, "test").model, shape, conditioning).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


def _out(model: nn.Module) -> torch.Tensor:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(x, torch.tensor([1.0, 500.0, 900.0]))


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_add_nothing_at_first_and_merge_into_the_weights(name: str) -> None:
    model = _network(name)
    before, count = _out(model), sum(value.numel() for value in model.parameters())
    add_adapters(model, LoraSpec(rank=2, alpha=3))
    assert torch.equal(_out(model), before)
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert all(".lora_" in key for key in trained)
    assert {key.partition(".lora_")[0].rpartition(".")[2] for key in trained} == NETWORKS[name][3]
    with torch.no_grad():
        for value in trained.values():
            value.add_(0.3 * torch.randn_like(value))
    adapted = _out(model)
    assert (adapted - before).abs().max() > 1e-3
    plain = merged(adapted_part(model))
    assert sum(value.numel() for value in plain.parameters()) == count
    if name == "diffusers":
        model.network = plain
        plain = model
    torch.testing.assert_close(_out(plain), adapted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (
            ["qkv", "qvk"],
            r"lora\.targets 'qvk' is no linear layer or convolution of the network, which has .*qkv",
        ),
        (["gelu"], "'gelu' is no linear layer"),
        (["kv"], "'kv' is no linear layer"),
    ],
)
def test_a_target_that_does_not_exist_is_refused_with_those_that_do(targets: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        add_adapters(_network("dit"), LoraSpec(rank=2, targets=tuple(targets)))
    assert "\n" not in str(caught.value)


def test_targets_are_names_or_their_ends() -> None:
    model = _network("dit")
    add_adapters(model, LoraSpec(rank=2, targets=("stem", "1.qkv")))
    adapted = {key.partition(".lora_")[0] for key, _ in model.named_parameters() if ".lora_" in key}
    assert adapted == {"stem", "blocks.1.qkv"}


def test_a_network_without_known_projections_needs_targets() -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets must name layers.*: 0, 2"):
        add_adapters(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), LoraSpec(rank=1))
