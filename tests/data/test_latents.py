"""Cached latents: the conditions in shards are checked against `latents.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning, DataSpec, LatentShape, data_info, load_data
from curriculum_ray.data.latents import LatentsInfo
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan
from curriculum_ray.distributed.ingest import StreamedBatches
from tests.data.streams import read_in_this_process

CLASSES = {"conditioning": Conditioning("class", 2), "class_names": ("a", "b")}
WORDS = {"conditioning": Conditioning("tokens", 3, 2), "vocabulary": ("<pad>", "dog", "red")}
VECTORS = {"conditioning": Conditioning("embedding", 4, 2)}


def write(folder: Path, conditions: list[dict[str, Tensor]], **info: Any) -> DataSpec:
    """A shard of two latents for each of `conditions`."""
    for number, condition in enumerate(conditions):
        save_file({"latents": torch.zeros(2, 4, 2, 2), **condition}, folder / f"{number}.safetensors")
    shards = tuple((f"{number}.safetensors", 2) for number in range(len(conditions)))
    described = LatentsInfo(LatentShape((4, 2, 2)), 1.0, 0.0, shards, **info).as_json()
    (folder / "latents.json").write_text(json.dumps(described))
    return DataSpec(name=str(folder), format="latents")


def test_a_pipe_in_the_place_of_a_shard_is_refused(tmp_path: Path) -> None:
    spec = write(tmp_path, [{}])
    (tmp_path / "0.safetensors").unlink()
    os.mkfifo(tmp_path / "0.safetensors")
    with pytest.raises(ConfigError, match=r"0\.safetensors cannot be read as a shard of latents: .*regular"):
        load_data(spec)


@pytest.mark.parametrize(
    ("info", "bad", "words"),
    [
        (CLASSES, {}, "1.safetensors cannot be read as a shard of latents: .*labels"),
        (CLASSES, {"labels": torch.tensor([0])}, r"must hold \(2,\) labels, but holds \(1,\)"),
        (CLASSES, {"labels": torch.tensor([0, 2])}, r"labels as integers in -1 \.\. 1, but got .* 0 \.\. 2"),
        (
            CLASSES,
            {"labels": torch.tensor([-2, 0])},
            r"labels as integers in -1 \.\. 1, but got .* -2 \.\. 0",
        ),
        (CLASSES, {"labels": torch.zeros(2)}, "labels as integers in .*, but got torch.float32"),
        (WORDS, {"labels": torch.tensor([0, 1])}, "cannot be read as a shard of latents: .*tokens"),
        (WORDS, {"tokens": torch.zeros(2, 3).long()}, r"must hold \(2, 2\) tokens, but holds \(2, 3\)"),
        (WORDS, {"tokens": torch.full((2, 2), 3)}, r"tokens as integers in 0 \.\. 2, but got .* 3 \.\. 3"),
        (VECTORS, {"embeddings": torch.zeros(2, 2, 5)}, r"must hold \(2, 2, 4\) embeddings"),
        (VECTORS, {"embeddings": torch.full((2, 2, 4), float("nan"))}, "must hold finite embeddings"),
    ],
)
def test_a_shard_that_tells_something_else_is_refused_in_one_line(
    info: dict[str, Any], bad: dict[str, Tensor], words: str, tmp_path: Path
) -> None:
    good = {
        "class": {"labels": torch.tensor([1, -1])},
        "tokens": {"tokens": torch.tensor([[1, 2], [1, 0]])},
        "embedding": {"embeddings": torch.ones(2, 2, 4).half()},
    }[info["conditioning"].kind]
    spec = write(tmp_path, [good, bad], **info)
    with pytest.raises(ConfigError, match=words) as error:
        load_data(spec)
    assert "\n" not in str(error.value)
    stream = spec.model_copy(update={"stream": True})
    found = scan(stream)
    with pytest.raises(ConfigError, match=words):
        read_rows(stream, found.info, found.units[1], [0])
    items, condition, _ = read_rows(stream, found.info, found.units[0], [1, 0])
    assert items.shape == (2, 4, 2, 2)
    assert condition is not None
    assert torch.equal(condition, next(iter(good.values())).to(condition.dtype)[[1, 0]])


def test_embeddings_are_streamed_beside_their_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_this_process(monkeypatch)
    conditions = [{"embeddings": torch.full((2, 2, 4), number + 1.0).half()} for number in range(3)]
    spec = write(tmp_path, conditions, **VECTORS).model_copy(update={"stream": True})
    found = scan(spec)
    source = StreamedBatches(spec, found, seed=1)
    items, condition = source.next(0, 6, 0, 1, torch.device("cpu"))
    assert items.shape == (6, 4, 2, 2)
    assert condition is not None
    assert condition.dtype == torch.float32
    assert condition.shape == (6, 2, 4)
    assert sorted(condition[:, 0, 0].tolist()) == [1, 1, 2, 2, 3, 3]


def test_a_stream_of_latents_without_one_of_its_shards_is_refused_before_it_is_read(tmp_path: Path) -> None:
    labels = [{"labels": torch.tensor([0, 1])}] * 5
    spec = write(tmp_path, labels, **CLASSES).model_copy(update={"stream": True})
    assert scan(spec).info.count == 10
    for number in (1, 3):
        (tmp_path / f"{number}.safetensors").unlink()
    words = rf"^data\.name must hold all shards that its latents\.json lists, but {tmp_path} has no "
    with pytest.raises(ConfigError, match=words + r"1\.safetensors, 3\.safetensors$"):
        scan(spec)


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    spec = write(tmp_path, [{"labels": torch.tensor([7, 8, 9])}], **CLASSES)
    assert load_data(spec.model_copy(update={"conditioning": "none"})).condition is None


def test_descriptions_from_before_captions_were_stored_know_classes_alone(tmp_path: Path) -> None:
    spec = write(tmp_path, [{"labels": torch.tensor([0, 1])}], **CLASSES)
    path = tmp_path / "latents.json"
    content = json.loads(path.read_text())
    for key in ("conditioning", "vocabulary", "text_encoder_sha256"):
        del content[key]
    path.write_text(json.dumps(content))
    assert load_data(spec).conditioning == Conditioning("class", 2)
    path.write_text(json.dumps({**content, "class_names": []}))
    assert load_data(spec).condition is None


@pytest.mark.parametrize(
    "conditioning",
    [
        {"kind": "class", "size": 3, "length": 0},
        {"kind": "tokens", "size": 2, "length": 0},
        {"kind": "smell", "size": 2, "length": 1},
        {"size": 2, "colour": 1},
        [],
    ],
)
def test_a_description_that_does_not_fit_itself_is_refused_in_one_line(
    conditioning: Any, tmp_path: Path
) -> None:
    spec = write(tmp_path, [{"labels": torch.tensor([0, 1])}], **CLASSES)
    path = tmp_path / "latents.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "conditioning": conditioning}))
    with pytest.raises(ConfigError, match=r"latents\.json must describe cached latents") as error:
        load_data(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stream", [None, True])
def test_a_condition_that_latents_do_not_have_is_refused(stream: bool | None, tmp_path: Path) -> None:
    spec = write(tmp_path, [{"tokens": torch.tensor([[1, 2], [1, 0]])}], **WORDS)
    for settings, words in (
        (
            {"conditioning": "class"},
            "conditioning class needs latents with classes, but .* has captions of 2",
        ),
        (
            {"conditioning": "text", "text_encoder": "encoder"},
            "text_encoder needs latents that were cached with a text encoder, but .* has captions of 2 tokens",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            data_info(DataSpec(name=spec.name, format="latents", stream=stream, **settings))
    info = data_info(DataSpec(name=spec.name, format="latents", stream=stream, conditioning="text"))
    assert (info.conditioning, info.vocabulary) == (WORDS["conditioning"], WORDS["vocabulary"])
