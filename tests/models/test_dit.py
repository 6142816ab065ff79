"""DiT as published, on images, signals and point sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning
from curriculum_ray.models import DiT, DiTSpec, build_model
from curriculum_ray.models.dit import positions

TINY = {"depth": 2, "width": 32, "heads": 2}


def make(shape: tuple[int, ...], **settings: Any) -> DiT:
    torch.manual_seed(0)
    model = build_model(DiTSpec(**{**TINY, **settings}), shape)
    assert isinstance(model, DiT)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(
    ("size", "expected"),
    [("S/2", 32_963_360), ("B/2", 130_512_416), ("L/2", 458_102_816), ("XL/2", 675_129_632)],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, expected: int) -> None:
    """`expected` counts the official code at 32×32×4 latents: table 1 says 33M, 130M, 458M, 675M.

    Its head also predicts a variance, and its fixed positions count as a parameter; ours has neither.
    """
    with torch.device("meta"):
        model = build_model(DiTSpec(size=size), (4, 32, 32), Conditioning("class", 1000))
    assert isinstance(model, DiT)
    ours = sum(parameter.numel() for parameter in model.parameters())
    variance = model.head.weight.numel() + model.head.bias.numel()
    assert model.place_NW is not None
    assert ours + variance + model.place_NW.numel() == expected


def test_patches_hold_neighbours_and_come_back_in_place() -> None:
    model = make((2, 4, 6))
    x = torch.arange(48.0).reshape(1, 2, 4, 6)
    patches = model._patches(x)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]
    channels_last = patches.view(1, 6, 2, 4).transpose(2, 3).reshape(1, 6, 8)
    assert torch.equal(model._items(channels_last), x)
    signal = make((2, 8))
    y = torch.arange(16.0).reshape(1, 2, 8)
    channels_last = signal._patches(y).view(1, 4, 2, 2).transpose(2, 3).reshape(1, 4, 4)
    assert torch.equal(signal._items(channels_last), y)


def test_points_may_come_in_any_order() -> None:
    x, noise, order = torch.randn(1, 3, 7), torch.tensor([10.0]), torch.randperm(7)
    model = make((3, 7), positional=False)
    torch.testing.assert_close(model(x[..., order], noise), model(x, noise)[..., order], atol=1e-5, rtol=1e-4)
    placed = make((3, 7), patch=1)
    assert not torch.allclose(placed(x[..., order], noise), placed(x, noise)[..., order], atol=1e-3)


def test_every_place_has_its_own_sinusoids() -> None:
    table = positions((3, 5), 16)
    assert table.shape == (15, 16)
    assert len({tuple(row) for row in table.tolist()}) == 15
    # The official code embeds the column first: along a row the second half stays the same.
    assert torch.equal(table[0, 8:], table[4, 8:])
    assert torch.equal(table[0, :8], table[5, :8])


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((3, 9, 8), {}, "patch must divide the sides"),
        ((3, 8), {"positional": False, "patch": 2}, "patch must be 1"),
        ((3, 8), {"size": "S/2", "positional": False}, "patch must be 1"),
        ((3, 8, 8), {"heads": 5}, "heads must divide model.width 32, but got 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(shape, **settings)


@pytest.mark.slow
def test_it_compiles_as_one_graph() -> None:
    model = make((2, 4, 4))
    x, noise = torch.randn(2, 2, 4, 4), torch.tensor([1.0, 900.0])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, noise), model(x, noise), atol=1e-5, rtol=1e-4)
