"""Operations of a training step are those that can be counted by hand."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from torch import Tensor, nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("rows", [7, 14])
def test_operations_of_a_known_network(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A linear layer of 3 by 5 over N rows: 2·3·5·N forward, as many for the weight's gradient; x needs none."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
            return self.layer(x)

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    flops = importlib.import_module("flops")
    assert flops.training_flops(Linear(), (3,), rows) == 2 * 2 * 3 * 5 * rows
