"""Networks of diffusers and of the user, behind our signature."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models import DiffusersSpec, PythonSpec, build_model

UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
CROSS = {
    **UNET,
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "norm_num_groups": 4}
ONE = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock1DNoSkip", "AttnDownBlock1D"),
    "up_block_types": ("AttnUpBlock1D", "UpBlock1DNoSkip"),
    "layers_per_block": 1,
}
CLASSES, WORDS = Conditioning("class", 3), Conditioning("tokens", 7, 4)
CASES = [
    ("UNet2DModel", UNET, (3, 8, 8), NO_CONDITIONING),
    ("UNet2DModel", UNET, (3, 8, 8), CLASSES),
    ("DiTTransformer2DModel", DIT, (4, 8, 8), NO_CONDITIONING),
    ("DiTTransformer2DModel", DIT, (4, 8, 8), CLASSES),
    ("UNet2DConditionModel", CROSS, (3, 8, 8), NO_CONDITIONING),
    ("UNet2DConditionModel", CROSS, (3, 8, 8), CLASSES),
    ("UNet2DConditionModel", CROSS, (3, 8, 8), WORDS),
    ("UNet1DModel", ONE, (2, 32), NO_CONDITIONING),
]


@pytest.mark.parametrize(
    ("name", "config", "shape", "conditioning"), CASES, ids=[f"{c[0]}-{c[3].kind}" for c in CASES]
)
def test_a_network_of_diffusers_is_called_as_ours(
    name: str, config: dict[str, Any], shape: tuple[int, ...], conditioning: Conditioning
) -> None:
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = build_model(DiffusersSpec(class_name=name, config=config, label_dropout=0.0), shape, conditioning)
    assert model.conditioning == conditioning
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    x, noise = torch.randn(1, *shape).expand(2, *shape), torch.tensor([5.0, 5.0])
    some, null = {
        "none": (None, None),
        "class": (torch.tensor([0, 2]), torch.tensor([-1, -1])),
        "tokens": (torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]]), torch.zeros(2, 4, dtype=torch.long)),
    }[conditioning.kind]
    out = model(x, noise, some)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not torch.allclose(
        model(x, torch.tensor([5.0, 900.0]), null)[1], model(x, noise, null)[1], atol=1e-6
    )
    if conditioning:
        model.eval()
        out = model(x, noise, some)
        assert not torch.allclose(out[0], out[1], atol=1e-6)
        torch.testing.assert_close(model(x, noise, null), model(x, noise, None))


def test_labels_of_a_network_of_diffusers_are_hidden_in_training() -> None:
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    for share, differ in ((0.0, False), (0.9, True)):
        spec = DiffusersSpec(class_name="DiTTransformer2DModel", config=DIT, label_dropout=share)
        model = build_model(spec, (4, 4, 4), CLASSES).train()
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        x, noise, labels = torch.ones(16, 4, 4, 4), torch.zeros(16), torch.zeros(16, dtype=torch.long)
        out = model(x, noise, labels)
        assert torch.allclose(out, out[:1].expand_as(out), atol=1e-5) != differ


@pytest.mark.parametrize(
    ("name", "config", "conditioning", "words"),
    [
        ("UNet3000", {}, NO_CONDITIONING, "UNet3000 is not a network of diffusers"),
        ("DDPMScheduler", {}, NO_CONDITIONING, "DDPMScheduler is not a network"),
        ("UNet2DModel", {"colour": 3}, NO_CONDITIONING, "model.config.colour is not an argument .*3"),
        ("UNet2DModel", {"down_block_types": ["Nope"]}, NO_CONDITIONING, "cannot be built"),
        ("UNet2DModel", UNET, WORDS, "takes no captions: set model.conditional to false"),
        ("UNet1DModel", ONE, CLASSES, "takes no classes"),
        ("DiTTransformer2DModel", {**DIT, "out_channels": 6}, NO_CONDITIONING, "learned variance"),
        ("UNet2DModel", {**UNET, "in_channels": 5}, NO_CONDITIONING, "fails on items of shape"),
    ],
)
def test_what_diffusers_cannot_do_is_refused_in_one_line(
    name: str, config: dict[str, Any], conditioning: Conditioning, words: str
) -> None:
    pytest.importorskip("diffusers")
    with pytest.raises(ConfigError, match=words) as error:
        build_model(DiffusersSpec(class_name=name, config=config), (3, 8, 8), conditioning)
    assert "\n" not in str(error.value)


def test_missing_diffusers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match="needs the package diffusers"):
        build_model(DiffusersSpec(class_name="UNet2DModel"), (3, 8, 8))


class Mine(nn.Module):
    """A network that obeys the contract, or breaks it as `fault` says."""

    def __init__(self, shape: tuple[int, ...], conditioning: Conditioning, fault: str = "") -> None:
        super().__init__()
        if fault == "init":
            raise RuntimeError("two\nlines")
        self.fault, self.given = fault, (shape, conditioning)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Any:
        if self.fault == "forward" or (self.fault == "condition" and condition is not None):
            raise RuntimeError("no\nway")
        torch.rand(1)
        return {"shape": x[:, :1], "dtype": x.double(), "type": [x]}.get(self.fault, self.weight * x)


class Fixed(Mine):
    """Its condition cannot be set."""

    conditioning = property(lambda self: CLASSES)


class Bare(nn.Module):
    """Nothing in it can be trained."""

    def __init__(self, shape: tuple[int, ...], conditioning: Conditioning) -> None:
        super().__init__()


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")
    module.Mine, module.number = Mine, lambda **_: 3  # type: ignore[attr-defined]
    module.Fixed, module.Bare = Fixed, Bare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)


def test_the_users_own_network_gets_shape_and_conditioning(mine: None) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model = build_model(PythonSpec(path="mine.Mine"), (2, 4), CLASSES)
    assert isinstance(model, Mine)
    assert model.given == ((2, 4), CLASSES)
    assert model.conditioning == CLASSES
    assert model.training
    assert torch.equal(torch.rand(1), expected), "trying the network disturbs the random state"
    unconditional = build_model(PythonSpec(path="mine.Mine", conditional=False), (2, 4), CLASSES)
    assert unconditional.conditioning == NO_CONDITIONING


@pytest.mark.parametrize(
    ("path", "config", "words"),
    [
        ("mine.Other", {}, "cannot be imported"),
        ("nowhere.Other", {}, "cannot be imported"),
        ("mine.number", {}, "must be a subclass of torch.nn.Module, but is function"),
        ("mine.Mine", {"fault": "init"}, "cannot be built: RuntimeError: two lines"),
        ("mine.Mine", {"depth": 3}, "cannot be built: TypeError.*depth"),
        ("mine.Mine", {"fault": "forward"}, "fails on items of shape .*no way"),
        (
            "mine.Mine",
            {"fault": "shape"},
            r"must return torch.float32 \(2, 2, 4\).*got torch.float32 \(2, 1, 4\)",
        ),
        ("mine.Mine", {"fault": "dtype"}, "got torch.float64"),
        ("mine.Mine", {"fault": "type"}, "got list"),
        ("mine.Mine", {"fault": "condition"}, "fails on items with 3 classes: .*no way"),
        ("mine.Fixed", {}, "must allow its attribute conditioning to be set"),
        ("mine.Bare", {}, "must be a network with parameters, but it has none"),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused_in_one_line(
    mine: None, path: str, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        build_model(PythonSpec(path=path, config=config), (2, 4), CLASSES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["def", "raise SystemExit(1)", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_networks.py").write_text(content)
    with pytest.raises(ConfigError, match=r"broken_networks\.Net cannot be imported: \w+"):
        build_model(PythonSpec(path="broken_networks.Net"), (2, 4))


def test_label_dropout_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_dropout is for a conditional network, but got 0\.3"):
        DiffusersSpec(class_name="UNet2DModel", conditional=False, label_dropout=0.3)
