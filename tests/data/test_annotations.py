"""Captions of a folder: what is read, what does not fit its images, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    return tmp_path


def load(folder: Path) -> Dataset:
    return load_data(DataSpec(name=str(folder), image_size=8))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "A cat."}\n\n{"file_name": "b.png", "caption": ""}\n'
            '{"file_name": "c.png", "text": "a dog"}\n',
        ),
        ("captions.json", '{"a.png": "a cat", "b.png": "", "c.png": "a dog"}'),
    ],
)
def test_captions_of_a_folder_are_read(
    folder: Path, recwarn: pytest.WarningsRecorder, file: str, text: str
) -> None:
    (folder / file).write_text(text)
    data = load(folder)
    assert data.vocabulary == ("<pad>", "a", "cat", "dog")
    assert data.condition is not None
    assert data.condition.tolist() == [[1, 2], [0, 0], [1, 3]]
    assert not recwarn.list


def test_captions_of_no_image_are_refused(folder: Path) -> None:
    (folder / "captions.json").write_text('{"a.jpg": "a cat", "b.jpg": "a dog"}')
    with pytest.raises(
        ConfigError, match=r"must name its images, .* first caption is for a\.jpg, the first image is a\.png"
    ):
        load(folder)


def test_images_without_captions_and_captions_without_images_are_counted_in_one_line(folder: Path) -> None:
    (folder / "captions.json").write_text('{"a.png": "a cat", "d.png": "a dog", "c.jpg": "a dog"}')
    with pytest.warns(UserWarning, match="captions of") as caught:
        load(folder)
    assert len(caught) == 1
    assert str(caught[0].message).endswith(
        "2 of 3 images have no caption, the first b.png; 2 of 3 captions have no image, the first c.jpg"
    )


def test_the_caption_of_a_skipped_image_has_an_image(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"no image")
    (folder / "captions.json").write_text('{"a.png": "a cat", "b.png": "a dog", "c.png": "a dog"}')
    with pytest.warns(UserWarning, match="were skipped") as caught:
        load_data(DataSpec(name=str(folder), image_size=8, corrupt="skip"))
    assert len(caught) == 1


def test_two_files_of_captions_are_refused(folder: Path) -> None:
    (folder / "captions.json").write_text('{"a.png": "a cat"}')
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}')
    with pytest.raises(ConfigError, match=r"must hold metadata\.jsonl or captions\.json, but has both"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("captions.json", '{"a.png": null}', r"key a\.png has None"),
        ("captions.json", '{"a.png": ["a cat"]}', r"key a\.png has \['a cat'\]"),
        ("captions.json", '{"a.png": "a cat", "a.png": "a dog"}', r"but has a\.png twice"),
        ("captions.json", "[1]", "TypeError"),
        ("captions.json", "3", "TypeError"),
        ("captions.json", "{", "JSONDecodeError"),
        ("metadata.jsonl", '\n{"file_name": "a.png", "text": null}', "line 2 has None"),
        ("metadata.jsonl", '{"file_name": 1, "text": "a cat"}', "line 1 has 1"),
        ("metadata.jsonl", '{"text": "a cat"}', "must have a column or key file_name, but has text"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "é"}', "UnicodeDecodeError"),
    ],
)
def test_captions_that_are_no_strings_are_refused(folder: Path, file: str, text: str, words: str) -> None:
    (folder / file).write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=words) as error:
        load(folder)
    assert file in str(error.value)
    assert "\n" not in str(error.value)
