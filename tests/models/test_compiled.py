"""Blocks that are alike are compiled once, whatever their number, and compute what they did."""

from __future__ import annotations

from functools import partialmethod
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.models import ModelSpec, build_model
from curriculum_ray.models.compiled import compile_blocks, repeated_blocks
from curriculum_ray.models.recomputed import recompute_blocks
from curriculum_ray.training.config import TrainConfig
from tests.models.networks import UNET_CONDITION

DIT = {"kind": "dit", "width": 32, "heads": 2}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The compiler's counters; it traces, but writes no machine code, which takes minutes."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    yield counters["stats"]
    torch._dynamo.reset()


def _network(settings: dict[str, Any]) -> nn.Module:
    if settings["kind"] == "diffusers":
        pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = build_model(TypeAdapter(ModelSpec).validate_python(settings), (1, 8, 8))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model


def _gradients(model: nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(1)
    loss = (model(torch.randn(3, 1, 8, 8), torch.tensor([1.0, 100.0, 900.0]), None) - 1).square().mean()
    return [
        g for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) if g is not None
    ]


@pytest.mark.parametrize("recomputed", [False, True])
def test_one_graph_serves_all_blocks_and_computes_the_same(graphs: Any, recomputed: bool) -> None:
    model = _network({**DIT, "depth": 11})
    expected = _gradients(model)
    if recomputed:
        recompute_blocks(model)
    compile_blocks(model)
    for one, other in zip(expected, _gradients(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert graphs["unique_graphs"] == 1


def test_of_diffusers_the_blocks_that_a_network_declares_are_compiled(graphs: Any) -> None:
    model = _network(UNET_CONDITION)
    assert {type(block).__name__ for block in repeated_blocks(model)} == {"BasicTransformerBlock"}
    expected = _gradients(model)
    compile_blocks(model)
    for one, other in zip(expected, _gradients(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert graphs["unique_graphs"] >= 1


def test_networks_without_blocks_that_are_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"compile blocks is for a dit or .*, but model.kind is unet"):
        parse(TrainConfig, {"compile": "blocks", "model": {"kind": "unet"}}, "settings")
    with pytest.raises(ConfigError, match=r"declares repeated blocks, not for Linear"):
        compile_blocks(nn.Linear(2, 2))
    assert parse(TrainConfig, {"compile": "blocks", "model": DIT}, "settings").compile == "blocks"
    assert parse(TrainConfig, {"compile": True}, "settings").compile is True
    with pytest.raises(ConfigError, match="compile"):
        parse(TrainConfig, {"compile": "block"}, "settings")
