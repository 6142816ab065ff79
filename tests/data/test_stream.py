"""The items of a stream that are kept in memory: never trained on, or a fixed choice of those that are."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, DataWarning
from curriculum_ray.data import stream as streams
from curriculum_ray.data.content import describe_content
from curriculum_ray.data.latents import LatentsInfo
from curriculum_ray.data.shards import scan
from curriculum_ray.data.stream import load_stream, with_note


def _png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value % 256, value // 256, 7)).save(buffer, format="PNG")
    return buffer.getvalue()


def _write(folder: Path, start: int, count: int, name: str = "a", broken: tuple[int, ...] = ()) -> DataSpec:
    """Images that show their own numbers, in row groups of 25, labelled by three classes."""
    numbers = range(start, start + count)
    images = [b"no image" if number in broken else _png(number) for number in numbers]
    table = pyarrow.table({"image": images, "label": [number % 3 for number in numbers]})
    parquet.write_table(table, folder / f"{name}.parquet", row_group_size=25)
    return DataSpec(name=str(folder), format="parquet", image_size=8)


def _numbers(items: Dataset | None) -> list[int]:
    assert items is not None
    assert items.stored.dtype == torch.uint8
    return (items.stored[:, 0, 0, 0].int() + 256 * items.stored[:, 1, 0, 0].int()).tolist()


def test_a_tenth_is_held_out_and_the_reference_is_of_the_others(tmp_path: Path) -> None:
    spec = _write(tmp_path, 0, 400)
    found = load_stream(spec, 100)
    held, reference = _numbers(found.info.heldout), _numbers(found.info.reference)
    assert (len({*held}), len({*reference}), found.info.count) == (40, 100, 360)
    assert not {*held} & {*reference}
    assert {
        25 * found.units[index].group + row for index, rows in found.reserved.numbers.items() for row in rows
    } == {*held}
    for items in (found.info.heldout, found.info.reference):
        assert items is not None
        assert items.condition is not None
        assert items.condition.tolist() == [number % 3 for number in _numbers(items)]
        assert items.conditioning == found.info.conditioning
    again = load_stream(spec, 100).info
    assert (_numbers(again.heldout), _numbers(again.reference)) == (held, reference)
    assert _numbers(load_stream(spec, 1_000).info.heldout) == held, (
        "the evaluation does not change what is held out"
    )
    noted = with_note(found.info, 100)
    assert noted.summary is not None
    lines = "\n".join(noted.summary.lines())
    assert "held out  40, never trained on: chosen by their places" in lines
    assert "samples are scored against 100 of the 360 items that are trained on" in lines


def test_without_a_share_and_of_few_items_nothing_is_held_out(tmp_path: Path) -> None:
    spec = _write(tmp_path, 0, 400)
    whole = load_stream(spec.model_copy(update={"holdout_share": 0}), 1_000).info
    assert (whole.count, whole.heldout, len(_numbers(whole.reference))) == (400, None, 400)
    spec = _write(tmp_path, 0, 100)
    assert load_stream(spec).info.heldout is None


def test_a_validation_split_is_held_out_and_all_of_the_train_split_is_trained_on(tmp_path: Path) -> None:
    spec = _write(tmp_path, 0, 300, "train-0")
    _write(tmp_path, 1_000, 50, "validation-0")
    found = load_stream(spec)
    assert sorted(_numbers(found.info.heldout)) == [*range(1_000, 1_050)]
    assert (found.info.count, len(found.reserved)) == (300, 0)
    assert found.info.summary is not None
    assert found.info.summary.held_out_from == "of the validation split"
    before = describe_content(spec, found.info)
    _write(tmp_path, 1_002, 50, "validation-0")
    assert describe_content(spec, load_stream(spec).info) != before
    table = pyarrow.table({"image": [_png(1)], "label": [9]})
    parquet.write_table(table, tmp_path / "validation-0.parquet")
    with pytest.warns(
        DataWarning, match="validation split is not held out: its classes must be those of the"
    ):
        assert len(load_stream(spec).reserved) == 30, "a split with other classes is left alone"


def _captioned(folder: Path, name: str, captions: list[str], start: int = 0) -> DataSpec:
    """Images that show their own numbers, with captions."""
    images = [_png(start + number) for number in range(len(captions))]
    parquet.write_table(pyarrow.table({"image": images, "caption": captions}), folder / f"{name}.parquet")
    return DataSpec(name=str(folder), format="parquet", image_size=8)


def test_captions_of_a_validation_split_lose_what_the_train_split_does_not_have(tmp_path: Path) -> None:
    spec = _captioned(tmp_path, "train-0", ["a red dog"] * 300)
    _captioned(tmp_path, "val-0", ["a red dog", "a tiny dog in blue", "red red a dog dog"], 1_000)
    with pytest.warns(DataWarning) as caught:
        found = load_stream(spec).info
    held = found.heldout
    assert held is not None
    assert held.condition is not None
    read = [" ".join(held.vocabulary[token] for token in row if token) for row in held.condition.tolist()]
    assert dict(zip(_numbers(held), read, strict=True)) == {
        1_000: "a red dog",
        1_001: "a dog",
        1_002: "red red a",
    }
    assert (held.vocabulary, held.conditioning, found.count) == (found.vocabulary, found.conditioning, 300)
    said = [str(each.message).removeprefix(f"{tmp_path}: ") for each in caught]
    captions = "captions of the held-out validation split are"
    assert said[-2:] == [
        f"{captions} read without 3 words that the train split does not have: blue, in, tiny",
        f"{captions} cut to 3 tokens, the length of the longest of the train split: one has 5",
    ]


@pytest.mark.parametrize(
    ("names", "others"),
    [(["zebra", "ant"], ""), (["ant", "zebra"], "0 = ant, 1 = zebra"), (["zebra", "gnu"], "1 = gnu")],
)
def test_a_validation_split_is_held_out_only_if_its_labels_mean_the_same(
    tmp_path: Path, names: list[str], others: str
) -> None:
    for split, count, each in (("train", 100, ["zebra", "ant"]), ("validation", 2, names)):
        features = {"label": {"names": each, "_type": "ClassLabel"}}
        table = pyarrow.table(
            {"image": [_png(number) for number in range(count)], "label": [n % 2 for n in range(count)]}
        )
        note = json.dumps({"info": {"features": features}}).encode()
        parquet.write_table(
            table.replace_schema_metadata({"huggingface": note}), tmp_path / f"{split}-0.parquet"
        )
    found = scan(DataSpec(name=str(tmp_path), format="parquet", image_size=8)).info
    assert found.held_out == (0 if others else 2)
    assert found.summary is not None
    last = found.summary.notes[-1]
    words = "the validation split is not held out: its classes must be those of the train split, but it has"
    assert last == f"{words} {others}" if others else "not held out" not in last


def test_a_split_whose_labels_go_by_another_name_is_not_held_out(tmp_path: Path) -> None:
    for split, column, start in (("train", "label", 0), ("test", "labels", 100)):
        numbers = range(260)
        table = {"image": [_png(start + number) for number in numbers], column: [n % 3 for n in numbers]}
        parquet.write_table(pyarrow.table(table), tmp_path / f"{split}-00000.parquet")
    with pytest.warns(
        DataWarning, match="the test split is not held out: its labels must go by the same name"
    ):
        stream = load_stream(DataSpec(name=str(tmp_path), format="parquet", image_size=8))
    heldout = stream.info.heldout
    assert heldout is not None
    assert heldout.condition is not None
    assert (len(heldout), stream.info.count + len(heldout)) == (26, 260)
    assert heldout.condition.min() >= 0


def test_a_corrupt_image_is_refused_or_left_out(tmp_path: Path) -> None:
    spec = _write(tmp_path, 0, 400)
    held = _numbers(load_stream(spec).info.heldout)
    _write(tmp_path, 0, 400, broken=(held[0],))
    with pytest.raises(ConfigError, match=rf"but cannot read a\.parquet row {held[0]} \(Unidentified"):
        load_stream(spec)
    left = load_stream(spec.model_copy(update={"corrupt": "skip"})).info
    assert _numbers(left.heldout) == held[1:]


def test_a_reference_takes_no_more_memory_than_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "REFERENCE_BYTES", 20 * 3 * 8 * 8)
    info = load_stream(_write(tmp_path, 0, 100), 50).info
    assert len(_numbers(info.reference)) == 20


def test_streamed_latents_keep_their_conditions(tmp_path: Path) -> None:
    shards = []
    for shard in range(4):
        numbers = torch.arange(100 * shard, 100 * shard + 100)
        latents = numbers.float()[:, None, None, None].expand(-1, 4, 2, 2).contiguous()
        save_file({"latents": latents, "labels": numbers % 5}, tmp_path / f"{shard}.safetensors")
        shards.append((f"{shard}.safetensors", 100))
    names = tuple("abcde")
    content = LatentsInfo((4, 2, 2), 1.0, 0.0, tuple(shards), names).as_json()
    del content["conditioning"]
    (tmp_path / "latents.json").write_text(json.dumps(content))
    spec = DataSpec(name=str(tmp_path), format="latents", stream=True)
    info = load_stream(spec, 60).info
    assert (info.count, info.held_out) == (360, 40)
    for items, count in ((info.heldout, 40), (info.reference, 60)):
        assert items is not None
        assert items.stored.shape == (count, 4, 2, 2)
        assert items.condition is not None
        assert torch.equal(items.condition, items.stored[:, 0, 0, 0].long() % 5)
