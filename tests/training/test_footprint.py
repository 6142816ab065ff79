"""A network's weights, operations and memory are counted as they are, without computing anything."""

from __future__ import annotations

import pytest

from curriculum_ray.config import parse
from curriculum_ray.data import Conditioning
from curriculum_ray.models import build_model
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.flops import operations_per_item
from curriculum_ray.training.footprint import footprint


def test_weights_and_operations_are_those_of_the_real_network() -> None:
    spec, classes = (
        parse(TrainConfig, {"model": {"base_channels": 8}}, "test").model,
        Conditioning("class", 10),
    )
    found = footprint(spec, (1, 8, 8), classes)
    real = build_model(spec, (1, 8, 8), classes)
    assert found.parameters == sum(value.numel() for value in real.parameters())
    assert found.train_flops == operations_per_item(spec, (1, 8, 8), classes)
    assert found.sample_flops is not None
    assert 0 < 2 * found.sample_flops < found.train_flops <= 3.1 * found.sample_flops


@pytest.mark.slow
def test_the_published_transformer_is_as_large_as_published() -> None:
    """Peebles & Xie 2023, Table 1 and App. A: DiT-XL/2 has 675M weights and 118.64 G multiply-adds on 32x32 latents."""
    spec = parse(TrainConfig, {"model": "dit-XL/2"}, "test").model
    found = footprint(spec, (4, 32, 32), Conditioning("class", 1000))
    assert found.parameters == pytest.approx(675e6, rel=0.005)
    assert found.sample_flops == pytest.approx(2 * 118.64e9, rel=0.001)


def test_a_perceptron_keeps_what_can_be_counted_by_hand() -> None:
    spec = parse(TrainConfig, {"model": {"kind": "mlp"}}, "test").model
    wide, narrow = footprint(spec, (2,)), footprint(spec, (2,), autocast=True)
    assert wide.kept_once_bytes == 0
    # In 16 bits most tensors are half as large, and the weights are copied once a batch.
    assert wide.kept_bytes is not None
    assert narrow.kept_bytes is not None
    assert narrow.kept_once_bytes is not None
    assert wide.kept_bytes / 2 <= narrow.kept_bytes < wide.kept_bytes
    assert 0 < narrow.kept_once_bytes <= 2 * narrow.parameters
