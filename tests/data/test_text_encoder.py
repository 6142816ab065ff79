"""Captions through a local encoder; a stand-in for transformers is enough to see what is asked of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.data.text_encoder import encode_captions


class Batch(dict[str, Tensor]):
    """What a tokenizer returns."""

    def to(self, device: Any) -> Batch:
        return self


def tokenizer(texts: list[str], max_length: int, **_: Any) -> Batch:
    """Each word is the number of its letters, after a start token of 1."""
    rows = [[1, *map(len, text.split())][:max_length] for text in texts]
    ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
    return Batch(input_ids=ids, attention_mask=(ids > 0).long())


class Encoder(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=1 + input_ids[..., None] * torch.ones(3).half())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def loader(result: Any) -> SimpleNamespace:
        def load(path: Path, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return result

        return SimpleNamespace(from_pretrained=load)

    module = ModuleType("transformers")
    module.AutoConfig = loader(SimpleNamespace(model_type="clip"))  # type: ignore[attr-defined]
    module.AutoTokenizer = loader(tokenizer)  # type: ignore[attr-defined]
    module.CLIPTextModel = loader(Encoder())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return calls


def test_captions_become_vectors_with_zeros_where_there_is_nothing(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = encode_captions(tmp_path, ["a red dog", "", "cat"], length=3, batch_size=2)
    assert out.dtype == torch.float32
    assert out[..., 0].tolist() == [[2, 2, 4], [0, 0, 0], [2, 4, 0]]
    assert all(call["local_files_only"] for call in asked)
    assert asked[-1]["use_safetensors"]


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        encode_captions(tmp_path / "nothing", ["a"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="needs the package transformers"):
        encode_captions(tmp_path, ["a"])


@pytest.mark.usefixtures("asked")
def test_shapes_and_folders_are_told_what_the_encoder_makes_of_their_captions(tmp_path: Path) -> None:
    spec = {"conditioning": "text", "text_encoder": str(tmp_path)}
    shapes = load_data(DataSpec(name="shapes", **spec))
    # A start token and "a small red circle on blue", and no more than that: a stand-in's vector is 3 wide.
    assert (str(shapes.conditioning), shapes.vocabulary) == ("captions as 7 vectors of 3", ())
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "captions.json").write_text('{"a.png": "one dog", "b.png": ""}')
    folder = load_data(DataSpec(name=str(tmp_path), **spec))
    assert folder.condition is not None
    assert folder.condition[..., 0].tolist() == [[2, 4, 4], [0, 0, 0]]


@pytest.mark.parametrize(
    "settings", [{}, {"name": "digits"}, {"name": "x", "format": "parquet", "conditioning": "text"}]
)
def test_an_encoder_without_captions_in_memory_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data\.text_encoder is for captions in memory"):
        DataSpec(**{"name": "shapes", **settings}, text_encoder="encoder")
