"""Captions of an image folder that were encoded beforehand: whose they are, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning, DataSpec, data_info, load_data
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE

NAMES = ("a.png", "deep/b.png", "deep/c.png")


def write(folder: Path, names: tuple[str, ...] = NAMES, **tensors: Tensor) -> DataSpec:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    vectors = {name: torch.full((number + 1, 4), number + 1.0) for number, name in enumerate(names)}
    save_file({**vectors, **tensors}, folder / EMBEDDINGS_FILE)
    return DataSpec(name=str(folder), image_size=8, conditioning="text")


def test_each_image_has_the_tensor_of_its_path_padded_by_zeros(tmp_path: Path) -> None:
    spec = write(tmp_path, **{"gone.png": torch.ones(9, 9)})
    with pytest.warns(UserWarning, match=r": 1 of 4 tensors have no image, the first gone\.png$"):
        data = load_data(spec)
    assert (data.conditioning, data.vocabulary) == (Conditioning("embedding", 4, 3), ())
    assert data.condition is not None
    assert data.condition.dtype == torch.float32
    assert data.condition[..., 3].tolist() == [[1, 0, 0], [2, 2, 0], [3, 3, 3]]


def test_they_come_before_captions_and_need_no_encoder(tmp_path: Path) -> None:
    names = ("a.png", "b.png")
    spec = write(tmp_path, names)
    (tmp_path / "captions.json").write_text(json.dumps(dict.fromkeys(names, "a dog")))
    settings: list[dict[str, Any]] = [{}, {"conditioning": None}, {"text_encoder": str(tmp_path / "gone")}]
    for change in settings:
        assert load_data(spec.model_copy(update=change)).conditioning.kind == "embedding"
    assert load_data(spec.model_copy(update={"conditioning": "none"})).condition is None


def test_class_folders_stay_classes_unless_text_is_asked_for(tmp_path: Path) -> None:
    spec = write(tmp_path, ("cat/a.png", "dog/a.png"))
    assert load_data(spec.model_copy(update={"conditioning": None})).class_names == ("cat", "dog")
    assert load_data(spec).conditioning.kind == "embedding"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"deep/b.png": torch.ones(4)}, r"\(tokens, width\) of equal width, but .* deep/b.png is \(4,\)"),
        ({"a.png": torch.tensor(1.0)}, r"of equal width, but .* a.png is \(\)"),
        ({"deep/c.png": torch.ones(2, 5)}, r"but a.png is \(1, 4\) and deep/c.png is \(2, 5\)"),
        ({"a.png": torch.ones(0, 4)}, r"a.png is \(0, 4\)"),
        ({"a.png": torch.full((1, 4), float("inf"))}, "must hold finite floats, but a.png has other values"),
        ({"a.png": torch.ones(1, 4).long()}, "must hold finite floats, but a.png has other values"),
    ],
)
def test_tensors_that_are_no_embeddings_are_refused_in_one_line(
    tensors: dict[str, Tensor], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_data(write(tmp_path, **tensors))
    assert "\n" not in str(error.value)


def test_images_without_a_tensor_are_named_and_a_broken_file_is_refused(tmp_path: Path) -> None:
    spec = write(tmp_path)
    path = tmp_path / EMBEDDINGS_FILE
    save_file({"a.png": torch.ones(1, 4)}, path)
    with pytest.raises(
        ConfigError, match=r"a tensor for each image, but has none for deep/b\.png and 1 more"
    ):
        load_data(spec)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="cannot be read as embeddings of captions") as error:
        load_data(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_streams_refuse_them_in_one_line(format: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError, match=rf"is for image folders, not for {format}") as error:
        data_info(DataSpec.model_validate({"name": str(tmp_path), "format": format}))
    assert "\n" not in str(error.value)
