"""Captions through a local encoder; a stand-in for transformers is enough to see what is asked of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data
from curriculum_ray.data.content import condition_content, describe_content
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE
from curriculum_ray.data.text_encoder import encode_captions
from tests.data.stand_ins import WIDTH, Encoder, stand_in_for_transformers


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


def captioned(folder: Path, captions: Sequence[str], encoder: Path) -> Dataset:
    """Images of one grey each, some of them held out, with captions that `encoder` embeds."""
    folder.mkdir(exist_ok=True)
    for number in range(len(captions)):
        Image.new("RGB", (8, 8), (40 * number,) * 3).save(folder / f"{number}.png")
    (folder / "captions.json").write_text(
        json.dumps({f"{number}.png": caption for number, caption in enumerate(captions)})
    )
    return load_data(spec_of(folder, encoder))


def spec_of(folder: Path, encoder: Path) -> DataSpec:
    return DataSpec(
        name=str(folder), image_size=8, conditioning="text", text_encoder=str(encoder), holdout_share=0.5
    )


@pytest.mark.usefixtures("asked")
def test_data_are_the_same_on_machines_whose_embeddings_differ_in_the_last_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, encoder = tmp_path / "images", tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").write_bytes(b"weights")
    captions = ["a cat", "a dog", "two cats", "a red ball", "", "a tree"]

    def content(data: Dataset) -> dict[str, Any]:
        return describe_content(spec_of(images, encoder), data)

    here = captioned(images, captions, encoder)
    assert here.heldout is not None
    assert (len(here.captions), len(here.heldout.captions)) == (len(here), len(here.heldout))
    assert sorted([*here.captions, *here.heldout.captions]) == sorted(captions)

    def forward(self: Encoder, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=1.001 + input_ids[..., None] * torch.ones(WIDTH))

    with monkeypatch.context() as machine:
        machine.setattr(Encoder, "forward", forward)
        there = captioned(images, captions, encoder)
    assert here.condition is not None
    assert there.condition is not None
    assert not torch.equal(here.condition, there.condition)
    assert content(there) == content(here)
    assert condition_content(there) == condition_content(here)
    # One caption of the items that are trained on, and one of those held out, change places.
    first, second = captions.index(here.captions[0]), captions.index(here.heldout.captions[0])
    swapped = list(captions)
    swapped[first], swapped[second] = captions[second], captions[first]
    assert content(captioned(images, swapped, encoder))["content"] != content(here)["content"]
    before = content(here)
    (encoder / "model.safetensors").write_bytes(b"other weights")
    assert content(here)["content"] != before["content"]


def test_embeddings_that_lie_with_the_images_count_by_their_values(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    spec = DataSpec(name=str(tmp_path), image_size=8)

    def content(value: float) -> str:
        save_file({"a.png": torch.full((2, 3), value)}, tmp_path / EMBEDDINGS_FILE)
        data = load_data(spec)
        assert data.captions == ()
        return str(describe_content(spec, data)["content"])

    assert content(1.0) == content(1.0) != content(1.001)


@pytest.mark.parametrize(
    "settings", [{}, {"name": "digits"}, {"name": "x", "format": "parquet", "conditioning": "text"}]
)
def test_an_encoder_without_captions_in_memory_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data\.text_encoder is for captions in memory"):
        DataSpec(**{"name": "shapes", **settings}, text_encoder="encoder")
