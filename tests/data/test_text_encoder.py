"""Captions through a local encoder; a stand-in for transformers is enough to see what is asked of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.data.text_encoder import encode_captions
from tests.data.stand_ins import stand_in_for_transformers


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return stand_in_for_transformers(monkeypatch)


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
def test_the_condition_of_shapes_and_folders_is_the_encoder_output(tmp_path: Path) -> None:
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
