"""The embedded sets: fixed content, conditions that fit, and settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import DataSpec, data_info, load_data, tokenise
from curriculum_ray.data.mixture import Mixture2D


@pytest.mark.parametrize(
    ("settings", "shape", "conditioning"),
    [
        ({"name": "photos"}, (3, 16, 16), "no condition"),
        ({"name": "shapes"}, (3, 16, 16), "6 classes"),
        ({"name": "shapes", "conditioning": "text"}, (3, 16, 16), "captions of 6 tokens from 18"),
        pytest.param(
            {"name": "shapes", "conditioning": "none", "image_size": 32},
            (3, 32, 32),
            "no condition",
            marks=pytest.mark.slow,
        ),
        ({"name": "mixture2d"}, (2,), "8 classes"),
        ({"name": "mixture2d", "set_size": 8}, (2, 8), "no condition"),
        ({"name": "tones"}, (1, 64), "5 classes"),
        ({"name": "digits", "conditioning": "none"}, (1, 8, 8), "no condition"),
    ],
)
def test_each_set_is_what_it_says(
    settings: dict[str, Any], shape: tuple[int, ...], conditioning: str
) -> None:
    data = load_data(DataSpec(**settings))
    assert data.shape == shape
    assert str(data.conditioning) == conditioning
    assert data.items.isfinite().all()
    assert 0.5 < data.items.abs().max() < 1.5
    assert data.items[:50].std(0).median() > 0.05
    if data.condition is not None:
        assert 0 <= data.condition.min() <= data.condition.max() < data.conditioning.size
    info = data_info(DataSpec(**settings))
    assert (info.fingerprint, info.conditioning) == (data.fingerprint, data.conditioning)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "photos", "image_size": 24}, "data.image_size must be 16 or 32 or left out for photos"),
        (
            {"name": "photos", "conditioning": "class"},
            "data.conditioning must be none or left out for photos",
        ),
        ({"name": "tones", "image_size": 32}, "data.image_size must be left out for tones"),
        ({"name": "tones", "set_size": 4}, "data.set_size is for mixture2d"),
        ({"corrupt": "skip"}, "data.corrupt is for data on disk"),
        ({"name": "shapes", "format": "parquet"}, "data.format is for data on disk"),
        ({"name": "x", "stream": True}, "data.stream is for parquet, webdataset and latents"),
        ({"name": "x", "vae": "y"}, "data.vae is for data.format latents"),
    ],
)
def test_settings_that_do_not_apply_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(DataSpec, settings, "test.yaml")
    assert "\n" not in str(error.value)


def test_captions_say_what_is_drawn() -> None:
    named = load_data(DataSpec(name="shapes", conditioning="text"))
    classes = load_data(DataSpec(name="shapes"))
    assert named.condition is not None
    assert classes.condition is not None
    for caption, label in zip(named.condition[:50], classes.condition[:50], strict=True):
        text = [named.vocabulary[token] for token in caption.tolist()]
        assert text[3] == classes.class_names[int(label)]
    red = tokenise(["a small red circle on blue"], named.vocabulary, 6)[0]
    mine = (named.condition == red).all(1)
    assert mine.any()
    corner = named.items[mine][:, :, 0, 0].mean(0)
    assert corner[2] == corner.max()


def test_unknown_words_are_named() -> None:
    vocabulary = load_data(DataSpec(name="shapes", conditioning="text")).vocabulary
    with pytest.raises(ConfigError, match=r"captions must be made of the words a, .* but got pink"):
        tokenise(["a pink circle"], vocabulary)


def test_points_follow_the_mixture() -> None:
    data = load_data(DataSpec(name="mixture2d"))
    assert data.condition is not None
    mixture = Mixture2D()
    for number in range(8):
        mine = data.items[data.condition == number]
        assert len(mine) / len(data) == pytest.approx(float(mixture.weights[number]), abs=0.015)
        assert torch.allclose(mine.mean(0).double(), mixture.means[number], atol=0.015)


def folder_with_a_broken_image(root: Path) -> Path:
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(root / f"{name}.png")
    (root / "b.png").write_bytes(b"no image")
    return root


def test_corrupt_images_are_skipped_on_request_and_named_once(tmp_path: Path) -> None:
    spec = DataSpec(name=str(folder_with_a_broken_image(tmp_path)), image_size=8, corrupt="skip")
    with pytest.warns(UserWarning, match=r"skipped: 1 of 3 cannot be read:\nb.png \(Unid") as caught:
        data = load_data(spec)
    assert len(data) == 2
    assert len(caught) == 1


def test_a_folder_of_nothing_but_corrupt_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="1 of 1 cannot be read"):
        load_data(DataSpec(name=str(tmp_path), corrupt="skip"))
