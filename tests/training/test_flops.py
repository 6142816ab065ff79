"""Operations of a training step are those that can be counted by hand, whether the network is there or on meta."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import parse
from curriculum_ray.data import Conditioning
from curriculum_ray.models import build_model
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.flops import operations_per_item, peak_flops, training_flops

DIT = {"kind": "dit", "depth": 1, "width": 32, "heads": 2}


@pytest.mark.parametrize("rows", [7, 14])
def test_operations_of_a_known_network(rows: int) -> None:
    """A linear layer of 3 by 5 over N rows: 2·3·5·N forward, as many for the weight's gradient; x needs none."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
            return self.layer(x)

    assert training_flops(Linear(), (3,), rows) == 2 * 2 * 3 * 5 * rows


@pytest.mark.parametrize(
    ("model", "conditioning", "condition"),
    [
        ({"kind": "unet", "base_channels": 8}, Conditioning(), None),
        (DIT, Conditioning("class", 10), torch.zeros(1, dtype=torch.long)),
        (DIT, Conditioning("tokens", 20, 4), torch.ones(1, 4, dtype=torch.long)),
        (DIT, Conditioning("embedding", 6, 4), torch.ones(1, 4, 6)),
    ],
    ids=["unet", "classes", "tokens", "embedding"],
)
def test_a_network_that_is_only_counted_needs_as_many_as_a_real_one(
    model: dict[str, Any], conditioning: Conditioning, condition: Tensor | None
) -> None:
    spec = parse(TrainConfig, {"model": model}, "test").model
    real = training_flops(build_model(spec, (1, 8, 8), conditioning), (1, 8, 8), 1, condition)
    assert operations_per_item(spec, (1, 8, 8), conditioning) == real > 0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GB200", None),
        ("A100-SXM4-40GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA A100X", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA RTX A1000 Laptop GPU", None),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA A10-4Q", None),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla K80", None),
    ],
)
def test_a_peak_is_that_of_the_very_device(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda", 0)) == peak
    assert peak_flops(torch.device("cpu")) is None
