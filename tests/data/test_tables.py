"""Tables and files beside images: which convention is read, what two of them mean, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from curriculum_ray.data import DataWarning
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE
from tests.data.folders import captions_of, draw, load, refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(tmp_path, "a.png", "b.png", "c.png")
    return tmp_path


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CAPTIONS = {"a.png": "a cat", "b.png": "", "c.png": "a red, round ball"}
IN_ORDER = ["a cat", "", "a red round ball"]


def write_csv(folder: Path, column: str = "text") -> None:
    rows = "".join(f'{name},"{text}"\r\n' for name, text in CAPTIONS.items())
    (folder / "metadata.csv").write_text(f"file_name,{column}\r\n{rows}", encoding="utf-8-sig", newline="")


def write_parquet(folder: Path, column: str = "text") -> None:
    texts = [text or None for text in CAPTIONS.values()]
    parquet.write_table(
        pyarrow.table({"file_name": list(CAPTIONS), column: texts}), folder / "metadata.parquet"
    )


def write_jsonl(folder: Path, column: str = "text") -> None:
    (folder / "metadata.jsonl").write_text(
        lines([{"file_name": name, column: text} for name, text in CAPTIONS.items()])
    )


def write_txt(folder: Path, column: str = "") -> None:
    for name, text in CAPTIONS.items():
        if text:
            (folder / name).with_suffix(".TXT" if name == "a.png" else ".txt").write_text(text)
        else:
            (folder / f"{name}.txt").touch()


def write_json(folder: Path, column: str = "") -> None:
    for name, text in CAPTIONS.items():
        (folder / name).with_suffix(".json").write_text(json.dumps({"caption": text or None, "width": 8}))


@pytest.mark.parametrize("form", [write_csv, write_parquet, write_jsonl, write_txt, write_json])
@pytest.mark.parametrize("below", ["", "train", "deep/er"])
def test_every_convention_gives_the_same_captions_at_any_level(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, form: Any, below: str
) -> None:
    draw(tmp_path / below, *CAPTIONS)
    form(tmp_path / below)
    data = load(tmp_path)
    assert captions_of(data) == IN_ORDER
    assert data.summary is not None
    assert data.summary.unlabelled == 1
    assert not recwarn.list


@pytest.mark.parametrize("form", [write_csv, write_parquet, write_jsonl])
def test_a_column_of_another_name_is_named_and_chosen(folder: Path, form: Any) -> None:
    form(folder, "beschreibung")
    with pytest.warns(
        DataWarning, match=r"text columns that are not read \(beschreibung\): data\.caption_column"
    ):
        assert load(folder).condition is None
    assert captions_of(load(folder, caption_column="beschreibung")) == IN_ORDER
    refused(
        folder,
        "data.caption_column must be a column or key of .*metadata.* but got gone",
        caption_column="gone",
    )


def test_a_table_of_each_split_names_files_beside_itself(tmp_path: Path) -> None:
    for split in ("train", "test"):
        draw(tmp_path / split, "1.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n1.png,of {split}\n")
    assert captions_of(load(tmp_path, split="all")) == ["of test", "of train"]


@pytest.mark.parametrize("name", ["./a.png", "cafe\u0301.png", "sub\\d.png"])
def test_names_of_files_are_matched_in_any_spelling(tmp_path: Path, name: str) -> None:
    file = {"./a.png": "a.png", "sub\\d.png": "sub/d.png"}.get(name, "caf\u00e9.png")
    draw(tmp_path, file)
    (tmp_path / "metadata.jsonl").write_text(lines([{"file_name": name, "text": "a cat"}]), encoding="utf-8")
    assert captions_of(load(tmp_path)) == ["a cat"]


def test_another_key_of_file_names_is_found_or_asked_for(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.jsonl").write_text(lines([{"left_file_name": "a.png", "text": "a cat"}]))
    with pytest.warns(UserWarning, match="1 of 2 images have no caption"):
        assert captions_of(load(tmp_path)) == ["a cat", ""]
    row = {"left_file_name": "a.png", "right_file_name": "b.png", "text": "a cat"}
    (tmp_path / "metadata.jsonl").write_text(lines([row]))
    refused(
        tmp_path,
        "left_file_name, right_file_name name files: choose the column of images with data.image_column",
    )
    with pytest.warns(UserWarning, match="the first a.png"):
        assert captions_of(load(tmp_path, image_column="right_file_name")) == ["", "a cat"]
    refused(tmp_path, "must have a column or key nope, but has left_file_name", image_column="nope")


@pytest.mark.parametrize("setting", ["image_column", "caption_column", "label_column"])
def test_a_key_of_a_table_is_refused_where_there_is_no_table(folder: Path, setting: str) -> None:
    words = f"{setting} nope needs metadata.jsonl, .* with that key, but .* has none"
    refused(folder, words, **{setting: "nope"})
    (folder / "captions.json").write_text(json.dumps(CAPTIONS))
    refused(folder, words, **{setting: "nope"})


def test_labels_of_a_table_are_classes_and_minus_one_is_none(folder: Path) -> None:
    rows = [{"file_name": name, "label": label} for name, label in zip("abc", (7, -1, 3), strict=True)]
    (folder / "metadata.jsonl").write_text(
        lines([{**row, "file_name": f"{row['file_name']}.png"} for row in rows])
    )
    data = load(folder)
    assert data.class_names == ("3", "7")
    assert data.condition is not None
    assert data.condition.tolist() == [1, -1, 0]
    assert data.summary is not None
    assert (data.summary.unlabelled, data.summary.classes) == (1, {"3": 1, "7": 1})


def test_labels_without_images_are_counted_in_one_line(folder: Path) -> None:
    kinds = {"a.png": "cat", "b.png": "dog", "c.png": "cat", "d.png": "owl", "e.png": "owl"}
    (folder / "metadata.jsonl").write_text(
        lines([{"file_name": f"test/{name}", "label": kind} for name, kind in kinds.items()])
    )
    (folder / "test").mkdir()
    for name in "abc":
        (folder / f"{name}.png").rename(folder / f"test/{name}.png")
    draw(folder, "train/1.png", "train/2.png")
    (folder / "train/metadata.jsonl").write_text(
        lines([{"file_name": "1.png", "label": "cat"}, {"file_name": "2.png", "label": "dog"}])
    )
    with pytest.warns(UserWarning, match="^labels of") as caught:
        assert load(folder).class_names == ("cat", "dog")
    assert {str(each.message) for each in caught if "labels of" in str(each.message)} == {
        f"labels of {folder}: 2 of 7 labels have no image, the first test/d.png"
    }


def test_class_folders_come_before_labels_of_a_table_unless_these_are_named(tmp_path: Path) -> None:
    draw(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "metadata.csv").write_text("file_name,breed,label\ncat/1.png,manx,4\ndog/1.png,pug,5\n")
    with pytest.warns(
        DataWarning, match=r"classes are the folders, not the labels of metadata\.csv, key label"
    ):
        assert load(tmp_path).class_names == ("cat", "dog")
    assert load(tmp_path, label_column="breed").class_names == ("manx", "pug")


def test_captions_beside_class_folders_are_named(tmp_path: Path) -> None:
    draw(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat/1.txt").write_text("a cat")
    with pytest.warns(
        DataWarning, match="trained on classes, not on the captions of .txt files beside the images"
    ):
        assert load(tmp_path).class_names == ("cat", "dog")
    with pytest.warns(UserWarning, match="1 of 2 images have no caption"):
        assert captions_of(load(tmp_path, conditioning="text")) == ["a cat", ""]


def test_a_table_comes_before_files_beside_the_images_unless_these_are_named(folder: Path) -> None:
    write_jsonl(folder)
    for name in CAPTIONS:
        (folder / name).with_suffix(".caption").write_text("another")
    with pytest.warns(DataWarning, match=r"from metadata\.jsonl, key text, not from the \.caption files"):
        assert captions_of(load(folder)) == IN_ORDER
    assert captions_of(load(folder, caption_column=".caption")) == ["another"] * 3


def test_txt_and_caption_files_that_differ_are_refused(folder: Path) -> None:
    (folder / "a.txt").write_text("tags")
    (folder / "a.caption").write_text("a sentence")
    refused(folder, r"\.txt and \.caption files differ, e\.g\. beside a\.png: data\.caption_column")
    with pytest.warns(UserWarning, match="2 of 3 images have no caption"):
        assert captions_of(load(folder, caption_column=".caption"))[0] == "a sentence"
    (folder / "a.caption").write_text("tags")
    with pytest.warns(UserWarning, match="2 of 3 images have no caption"):
        assert captions_of(load(folder))[0] == "tags"


def test_boxes_of_objects_are_no_captions(folder: Path) -> None:
    for name in CAPTIONS:
        (folder / name).with_suffix(".txt").write_text("0 0.5 0.5 0.25 1e-1\n2 0.1 0.1 0.2 0.2\n")
    with pytest.warns(DataWarning, match=r"\.txt files beside the images hold bounding boxes"):
        assert load(folder).condition is None


def test_numbers_are_captions_too(folder: Path) -> None:
    for number, name in enumerate(CAPTIONS):
        (folder / name).with_suffix(".txt").write_text(f"{number}\n")
    assert captions_of(load(folder)) == ["0", "1", "2"]


def test_a_split_column_of_a_table_is_said_not_to_be_read(folder: Path) -> None:
    rows = [{"file_name": name, "text": text, "split": "train"} for name, text in CAPTIONS.items()]
    (folder / "metadata.jsonl").write_text(lines(rows))
    with pytest.warns(DataWarning, match=r"metadata\.jsonl has a key split, which is ignored"):
        load(folder)


def test_two_usual_columns_that_differ_are_named(folder: Path) -> None:
    rows = [{"file_name": name, "text": text, "caption": f"{text}!"} for name, text in CAPTIONS.items()]
    (folder / "metadata.jsonl").write_text(lines(rows))
    with pytest.warns(DataWarning, match=r"metadata\.jsonl has text, caption, of which text is read"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "metadata.csv",
            "file_name,text\na.png,a cat, sitting\n",
            "line 2 has more: text with commas needs quotes",
        ),
        (
            "metadata.csv",
            "name,text\na.png,a cat\n",
            "must have a column or key file_name, but has name, text",
        ),
        (
            "metadata.csv",
            'file_name,text\na.png,"a cat\n',
            "metadata.csv must map file names to captions, but",
        ),
        ("metadata.jsonl", "[1]\n", "must hold an object in each line, but line 1 has"),
        ("metadata.jsonl", "{}\n?\n", r"must hold an object in each line, but in line 2: Expecting value$"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "a cat", "text": "a dog"}\n',
            r"metadata\.jsonl must hold an object in each line, but in line 1: the key 'text' is repeated$",
        ),
        (
            "a.json",
            '{"caption": "a cat", "caption": "a dog"}',
            r"a\.json must hold the caption of a\.png, but: the key 'caption' is repeated$",
        ),
        ("metadata.parquet", "?", "metadata.parquet must map file names to captions, but"),
        ("a.txt", "caf\udce9", r"a\.txt must hold the caption of a\.png, but: 'utf-8'"),
    ],
)
def test_broken_tables_are_refused_in_one_line(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(folder, words)


def test_two_columns_of_one_name_are_refused_and_nameless_ones_are_not(folder: Path) -> None:
    table = folder / "metadata.csv"
    table.write_text("file_name,text,text\na.png,a cat,a dog\n")
    refused(folder, f"^{table} must have each column once, but has text twice$")
    table.write_text("file_name,text,,\na.png,a cat,,\nb.png,a dog,,\nc.png,a dog,,\n")
    assert captions_of(load(folder)) == ["a cat", "a dog", "a dog"]
    table.unlink()
    columns = [pyarrow.array([text]) for text in ("a.png", "a cat", "a dog")]
    parquet.write_table(pyarrow.table(columns, ["file_name", "text", "text"]), folder / "metadata.parquet")
    refused(folder, r"metadata\.parquet must have each column once, but has text twice$")


@pytest.mark.parametrize(
    "name", ["metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.json", "a.txt", EMBEDDINGS_FILE]
)
def test_a_pipe_is_read_for_no_captions(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    refused(folder, f"{name} (must|cannot) .*it is not a regular file")


def test_captions_that_collide_are_counted_in_a_warning(folder: Path) -> None:
    rows = [
        {"file_name": f"{name}.png", "text": text}
        for name, text in (("a", "a cat"), ("b", "A cat?"), ("c", "x"))
    ]
    (folder / "metadata.jsonl").write_text(lines(rows))
    with pytest.warns(DataWarning, match="1 captions have the same tokens"):
        load(folder)


@pytest.mark.parametrize(
    "suffix", [".jfif", ".JPE", ".jp2", ".qoi", ".tga", ".AVIF", ".ico", ".Webp", ".pcx"]
)
def test_whatever_pillow_decodes_is_an_image(tmp_path: Path, suffix: str) -> None:
    name = suffix.lower()
    form = {".jfif": "JPEG", ".jpe": "JPEG", ".jp2": "JPEG2000"}.get(name, name[1:].upper())
    Image.new("RGB", (16, 16), (200, 10, 10)).save(tmp_path / f"a{suffix}", form)
    assert load(tmp_path).items.shape == (1, 3, 8, 8)


def test_sizes_modes_and_repeated_contents_are_counted(tmp_path: Path) -> None:
    for number, (mode, size) in enumerate([("RGB", (8, 9)), ("L", (8, 9)), ("RGB", (8, 9)), ("P", (4, 4))]):
        Image.new(mode, size).save(tmp_path / f"{number}.png")
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(tmp_path / "4.gif", save_all=True, append_images=frames[1:])
    summary = load(tmp_path).summary
    assert summary is not None
    stats = summary.image_stats
    assert (stats.sizes, stats.modes) == ({"8x9": 3, "4x4": 2}, {"RGB": 2, "P": 2, "L": 1})
    assert (stats.duplicates, stats.duplicate, stats.animated) == (1, ("0.png", "2.png"), 1)
    assert "1 images duplicate another, e.g. 0.png and 2.png" in "\n".join(summary.lines())
