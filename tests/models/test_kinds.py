"""What networks of every kind have in common: the call, the start, conditions, gradients and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, apply_overrides, parse
from curriculum_ray.data import NO_CONDITIONING, Conditioning, DataSpec, load_data
from curriculum_ray.models import (
    DiTSpec,
    MLPSpec,
    UNetSpec,
    build_model,
    check_model,
)
from curriculum_ray.training.config import TrainConfig

SMALL_DIT = {"depth": 2, "width": 32, "heads": 2}
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "unet": (UNetSpec(base_channels=8), (1, 8, 8)),
    "dit image": (DiTSpec(**SMALL_DIT), (2, 4, 8)),
    "dit signal": (DiTSpec(**SMALL_DIT, patch=4), (2, 16)),
    "dit points": (DiTSpec(**SMALL_DIT, positional=False), (3, 5)),
    "mlp": (MLPSpec(width=16), (2,)),
}
CONDITIONS = {
    "none": NO_CONDITIONING,
    "class": Conditioning("class", 3),
    "tokens": Conditioning("tokens", 11, 4),
    "embedding": Conditioning("embedding", 6, 4),
}


def make(case: str, kind: str = "none") -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    spec, shape = CASES[case]
    return build_model(spec, shape, CONDITIONS[kind]), shape


def awake(model: nn.Module) -> nn.Module:
    """Give the layers that start at zero random weights, so that the output depends on everything."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def conditions(kind: str) -> tuple[Tensor, Tensor]:
    """Two conditions, and two null conditions."""
    if kind == "class":
        return torch.tensor([0, 2]), torch.tensor([-1, -1])
    if kind == "tokens":
        return torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]]), torch.zeros(2, 4, dtype=torch.long)
    vectors = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2))
    return vectors * torch.tensor([1, 1, 1, 0])[:, None], torch.zeros(2, 4, 6)


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_output_starts_at_zero_and_every_parameter_is_trained(case: str, kind: str) -> None:
    """DistributedDataParallel waits for ever for the gradient of a parameter that has none."""
    model, shape = make(case, kind)
    x, noise = torch.randn(2, *shape), torch.tensor([0.0, 999.0])
    condition = None if kind == "none" else conditions(kind)[0]
    out = model(x, noise, condition)
    assert out.shape == x.shape
    assert not out.any()
    model = awake(model).eval()
    model(x, noise, condition).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    # What lies behind a pooled vector or a softmax over equal keys may be untouched, but not whole layers.
    dead = [name for name, p in model.named_parameters() if not p.grad.any() and "key_value" not in name]
    assert not dead


@pytest.mark.parametrize("kind", ["class", "tokens", "embedding"])
@pytest.mark.parametrize("case", CASES)
def test_conditions_matter_and_null_conditions_equal_none(case: str, kind: str) -> None:
    model, shape = make(case, kind)
    model = awake(model).eval()
    x, noise = torch.randn(1, *shape).expand(2, *shape), torch.zeros(2)
    some, null = conditions(kind)
    out, none = model(x, noise, some), model(x, noise, None)
    assert not torch.allclose(out[0], out[1], atol=1e-5)
    assert not torch.allclose(out[0], none[0], atol=1e-5)
    torch.testing.assert_close(model(x, noise, null), none)
    assert none.isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_padding_is_not_looked_at(case: str) -> None:
    """A caption's meaning may not depend on what else its row could hold."""
    short = {"tokens": Conditioning("tokens", 11, 4)}["tokens"]
    model, shape = make(case, "tokens")
    model = awake(model).eval()
    table = next(m for m in model.modules() if isinstance(m, nn.Embedding))
    x, noise = torch.randn(1, *shape), torch.zeros(1)
    caption = torch.tensor([[1, 2, 0, 0]])
    before = model(x, noise, caption)
    table.weight.data[0] += 5
    torch.testing.assert_close(model(x, noise, caption), before)
    assert model.conditioning == short


@pytest.mark.parametrize("kind", ["class", "tokens", "embedding"])
def test_each_condition_is_dropped_independently_in_training_only(kind: str) -> None:
    torch.manual_seed(0)
    model = awake(build_model(MLPSpec(width=16, label_dropout=0.5), (2,), CONDITIONS[kind]))
    x, noise = torch.ones(2000, 2), torch.zeros(2000)
    condition = conditions(kind)[0][:1]
    condition = condition.expand(2000, *condition.shape[1:])
    with torch.no_grad():
        null = model(x, noise, None)[0]
        hidden = torch.isclose(model.train()(x, noise, condition), null, atol=1e-5).all(1)
        assert not torch.isclose(model.eval()(x, noise, condition), null, atol=1e-5).all(1).any()
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("case", CASES)
def test_bfloat16_autocast_works_forward_and_back(case: str, kind: str) -> None:
    model, shape = make(case, kind)
    model = awake(model)
    x, noise = torch.randn(2, *shape), torch.tensor([1.0, 900.0])
    condition = None if kind == "none" else conditions(kind)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, noise, condition)
    assert out.isfinite().all()
    out.float().sum().backward()


@pytest.mark.parametrize("case", CASES)
def test_no_value_is_waited_for(case: str) -> None:
    """Meta tensors have no values: reading one raises."""
    model, shape = make(case, "tokens")
    x, noise = torch.empty(2, *shape, device="meta"), torch.empty(2, device="meta")
    model.to("meta")(x, noise, torch.ones(2, 4, dtype=torch.long, device="meta")).sum().backward()


@pytest.mark.parametrize(
    ("text", "kind", "field", "value"),
    [
        ("dit-S/2", "dit", "size", "S/2"),
        ("{kind: dit, size: XL/2}", "dit", "size", "XL/2"),
        ("mlp", "mlp", "width", 128),
        ("{base_channels: 8}", "unet", "base_channels", 8),
        ("diffusers:UNet2DModel", "diffusers", "class_name", "UNet2DModel"),
        ("python:my.module.Class", "python", "path", "my.module.Class"),
    ],
)
def test_a_network_is_named_in_one_word_or_a_mapping(text: str, kind: str, field: str, value: Any) -> None:
    model = parse(TrainConfig, apply_overrides({}, [f"model={text}"]), "--set").model
    assert model.kind == kind
    assert getattr(model, field) == value
    again = parse(TrainConfig, {"model": model.model_dump(mode="json")}, "file").model
    assert again == model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dit-M/2", "model: size must be S, B, L or XL.*M/2"),
        ("transformer", "model.kind must be one of .*dit.*, but got 'transformer'"),
        ("{kind: dit, base_channels: 4}", "model.base_channels is not a known key"),
        ("3", "model"),
    ],
)
def test_a_network_that_does_not_exist_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(TrainConfig, apply_overrides({}, [f"model={text}"]), "--set")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (UNetSpec(), (2,), "choose model.kind mlp"),
        (UNetSpec(), (1, 64), "choose model.kind dit"),
        (DiTSpec(), (2,), "choose model.kind mlp"),
        (MLPSpec(), (1, 8, 8), "choose model.kind dit or unet"),
        (MLPSpec(conditional=True), (2,), "conditional needs data with classes or captions"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_what_would(
    spec: Any, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_model(spec, shape)


def test_a_condition_for_a_network_that_takes_none_is_refused() -> None:
    for case in CASES:
        model, shape = make(case)
        with pytest.raises(ValueError, match="takes no condition, but got one"):
            model(torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({}, "unet"),
        ({"name": "mixture2d"}, "mlp"),
        ({"name": "mixture2d", "set_size": 7}, "dit"),
        ({"name": "tones"}, "dit"),
    ],
)
def test_settings_that_name_no_network_get_one_that_fits_the_data(data: dict[str, Any], kind: str) -> None:
    for model in ({}, {"model": {"conditional": False}}):
        config = parse(TrainConfig, {"data": data, **model}, "settings")
        assert config.model.kind == kind
        assert TrainConfig.model_validate(config.model_dump()) == config
        shape = load_data(config.data).shape
        assert build_model(config.model, shape)(torch.zeros(2, *shape), torch.zeros(2)).shape == (2, *shape)
    assert TrainConfig(data=DataSpec(**data)).model.kind == kind


@pytest.mark.parametrize("case", CASES)
def test_a_network_is_checked_without_drawing_normal_weights(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On the meta device that imports torch's compiler, seconds of the start of each command.
    def draw(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.Tensor, "normal_", draw)
    check_model(*CASES[case], CONDITIONS["class"])


def test_what_cannot_be_built_fails_its_check() -> None:
    with pytest.raises(ConfigError) as built:
        build_model(DiTSpec(patch=3), (1, 8, 8))
    with pytest.raises(ConfigError) as checked:
        check_model(DiTSpec(patch=3), (1, 8, 8))
    assert str(checked.value) == str(built.value)
