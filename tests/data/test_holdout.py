"""The held-out split: chosen by content alone, of about the share asked for, and apart from what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset, DataSpec, DataWarning, data_info, load_data
from curriculum_ray.data.holdout import LEAST_ITEMS, hold_out
from curriculum_ray.data.latent_cache import CacheSpec
from tests.data.folders import captions_of, draw, load


def _rows(items: torch.Tensor) -> set[bytes]:
    return {item.contiguous().numpy().tobytes() for item in items}


@pytest.mark.parametrize("name", ["digits", "photos", "shapes", "mixture2d", "tones"])
def test_each_embedded_set_holds_out_about_a_tenth_and_trains_on_none_of_it(name: str) -> None:
    data, whole = load_data(DataSpec(name=name)), load_data(DataSpec(name=name, holdout_share=0))
    assert whole.heldout is None
    assert data.heldout is not None
    assert len(data) + len(data.heldout) == len(whole)
    assert 0.08 < len(data.heldout) / len(whole) < 0.12
    assert not _rows(data.items) & _rows(data.heldout.items)
    assert _rows(data.items) | _rows(data.heldout.items) == _rows(whole.items)
    assert data.heldout.conditioning == data.conditioning == whole.conditioning
    info = data_info(DataSpec(name=name))
    assert (info.count, info.held_out) == (len(data), len(data.heldout))
    assert data.summary is not None
    words = f"  held out  {len(data.heldout):,}, never trained on: chosen by content"
    assert words in data.summary.lines()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.9))
def test_the_split_follows_an_item_through_any_order_and_a_growing_set(seed: int, share: float) -> None:
    source = torch.Generator().manual_seed(seed)
    items = torch.randn(300, 3, generator=source)
    labels = torch.arange(300)
    names = tuple(str(label) for label in range(300))
    order = torch.randperm(300, generator=source)
    one = hold_out(Dataset("a", items, labels, names), share)
    other = hold_out(Dataset("b", items[order], labels[order], names), share)
    fewer = hold_out(Dataset("c", items[:200], labels[:200], names), share)
    assert one.heldout is not None
    assert other.heldout is not None
    assert fewer.heldout is not None
    assert torch.equal(one.heldout.items, other.heldout.items)
    assert torch.equal(one.heldout.condition, other.heldout.condition)  # type: ignore[arg-type]
    assert _rows(fewer.heldout.items) == _rows(one.heldout.items) & _rows(items[:200])
    assert torch.equal(items[one.condition], one.items)


def test_equal_items_are_on_one_side() -> None:
    items = torch.randn(LEAST_ITEMS, 2).repeat(2, 1)
    data = hold_out(Dataset("twice", items), None)
    assert data.heldout is not None
    assert len(data.heldout) % 2 == 0
    assert not _rows(data.items) & _rows(data.heldout.items)


def test_an_official_split_is_held_out_whole_less_what_is_also_trained_on(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        draw(tmp_path, *(f"train/{kind}/{number}.png" for number in range(5)))
        draw(tmp_path, *(f"test/{kind}/{number}.png" for number in range(3)))
    (tmp_path / "test/cat/0.png").write_bytes((tmp_path / "train/dog/0.png").read_bytes())
    data = load(tmp_path)
    assert len(data) == 10
    assert data.heldout is not None
    assert len(data.heldout) == 5
    assert data.heldout.class_names == ("cat", "dog")
    assert not _rows(data.items) & _rows(data.heldout.items)
    assert data.summary is not None
    assert "  held out  5, never trained on: an official split" in data.summary.lines()
    assert load(tmp_path, holdout_share=0).heldout is None
    shared = load(tmp_path, holdout_share=0.5)
    assert shared.heldout is not None
    assert len(shared) + len(shared.heldout) == 10
    assert load(tmp_path, split="test").heldout is None


def test_a_split_with_other_classes_is_not_held_out(tmp_path: Path) -> None:
    draw(tmp_path, "train/cat/0.png", "train/dog/0.png", "test/cow/0.png", "test/hen/0.png")
    words = (
        "the test split is not held out: its classes must be those of the train split, but it has cow, hen$"
    )
    with pytest.warns(DataWarning, match=words):
        assert load(tmp_path).heldout is None


def test_a_split_that_only_repeats_the_train_split_is_not_held_out(tmp_path: Path) -> None:
    draw(tmp_path, "train/0.png", "train/1.png")
    (tmp_path / "val").mkdir()
    (tmp_path / "val/0.png").write_bytes((tmp_path / "train/1.png").read_bytes())
    with pytest.warns(DataWarning, match="the validation split is not held out: it must have items that the"):
        assert load(tmp_path).heldout is None


def test_a_split_with_some_of_the_classes_is_held_out(tmp_path: Path) -> None:
    draw(tmp_path, *(f"train/{kind}/{number}.png" for kind in ("ape", "bee", "cat") for number in range(3)))
    draw(tmp_path, "test/bee/0.png", "test/cat/0.png", "test/cat/1.png")
    data = load(tmp_path)
    assert data.heldout is not None
    assert data.heldout.conditioning == data.conditioning
    assert sorted(data.heldout.condition.tolist()) == [1, 2, 2]  # type: ignore[union-attr]


def test_captions_of_an_official_split_lose_what_the_train_split_does_not_have(tmp_path: Path) -> None:
    captions = {
        "train/0": "a red dog",
        "train/1": "a dog",
        "val/0": "a tiny dog in blue",
        "val/1": "red red a dog",
    }
    draw(tmp_path, *(f"{name}.png" for name in captions))
    for name, caption in captions.items():
        (tmp_path / f"{name}.txt").write_text(caption)
    with pytest.warns(DataWarning) as caught:
        data = load(tmp_path)
    assert data.heldout is not None
    assert (data.heldout.vocabulary, data.heldout.conditioning) == (data.vocabulary, data.conditioning)
    assert sorted(captions_of(data.heldout)) == ["a dog", "red red a"]
    said = "\n".join(str(each.message) for each in caught)
    assert "read without 3 words that the train split does not have: blue, in, tiny" in said
    assert "are cut to 3 tokens, the length of the longest of the train split: one has 5" in said


@pytest.mark.parametrize(("train", "other"), [(2, 3), (3, 2)])
def test_encoded_captions_of_an_official_split_are_cut_or_padded(
    tmp_path: Path, train: int, other: int
) -> None:
    draw(tmp_path, "train/0.png", "val/0.png")
    encoded = {"train/0.png": torch.ones(train, 4), "val/0.png": torch.arange(4.0 * other).reshape(other, 4)}
    save_file(encoded, tmp_path / "embeddings.safetensors")
    data = load(tmp_path)
    assert data.heldout is not None
    assert data.heldout.condition is not None
    kept = min(train, other)
    assert data.heldout.condition.shape == (1, train, 4)
    assert torch.equal(data.heldout.condition[0, :kept], encoded["val/0.png"][:kept])
    assert not data.heldout.condition[0, kept:].any()


def test_repeats_do_not_make_a_small_set_a_large_one() -> None:
    items = torch.randn(30, 2).repeat(10, 1)
    assert hold_out(Dataset("repeated", items), None).heldout is None


def test_small_sets_hold_nothing_out_unless_asked_to() -> None:
    small = Dataset("small", torch.randn(LEAST_ITEMS - 1, 2))
    assert hold_out(small, None) is small
    assert hold_out(small, 0.5).heldout is not None


@pytest.mark.parametrize(("count", "share"), [(3, 0.0001), (3, 0.9999)])
def test_a_share_that_leaves_a_side_empty_is_refused(count: int, share: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.holdout_share must leave items on both sides, but"):
        hold_out(Dataset("tiny", torch.arange(count * 2.0).reshape(count, 2)), share)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"name": "x", "format": "parquet", "holdout_share": 0.1},
            "data.holdout_share must be 0 or left out for streams",
        ),
        ({"name": "x", "format": "latents", "stream": True, "holdout_share": 0.1}, "left out for streams"),
        ({"holdout_share": 1.0}, "holdout_share"),
    ],
)
def test_a_share_that_does_not_apply_is_refused_in_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(DataSpec, values, "data")
    assert "\n" not in str(error.value)


def test_latents_are_cached_of_all_images_and_split_when_they_are_trained_on(tmp_path: Path) -> None:
    assert CacheSpec(data=DataSpec(name=str(tmp_path))).data.holdout_share == 0
    with pytest.raises(ConfigError, match="all images are cached"):
        parse(CacheSpec, {"data": {"holdout_share": 0.2}}, "cache")
