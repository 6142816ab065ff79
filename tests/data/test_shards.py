"""Shards together: what all of them must agree on, and samples without an image."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan


def image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, **files: dict[str, list[Any]]) -> DataSpec:
    for name, columns in files.items():
        rows = len(next(iter(columns.values()), [0]))
        parquet.write_table(pyarrow.table({"image": [image()] * rows, **columns}), folder / f"{name}.parquet")
    return DataSpec(name=str(folder), format="parquet", image_size=8)


def write_tars(folder: Path, **files: dict[str, bytes]) -> DataSpec:
    for name, members in files.items():
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for member, content in members.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return DataSpec(name=str(folder), format="webdataset", image_size=8)


@pytest.mark.parametrize("format_", ["parquet", "webdataset", "latents"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_to_nothing_and_a_pipe_among_shards_are_named(tmp_path: Path, format_: Any, kind: str) -> None:
    path = tmp_path / {"parquet": "b.parquet", "webdataset": "b.tar", "latents": "b.safetensors"}[format_]
    write_parquet(tmp_path, a={"label": [1, 2]})
    write_tars(tmp_path, a={"1.png": image()})
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nothing")
    reason = "it is not a regular file" if kind == "pipe" else "No such file or directory"
    with pytest.raises(ConfigError, match=f"^{path} cannot be read as a shard: {reason}$"):
        scan(DataSpec(name=str(tmp_path), format=format_, stream=True))


def test_integers_and_strings_as_labels_are_refused_together(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, a={"label": [1, 2]}, b={"label": ["1", "2"]})
    with pytest.raises(ConfigError, match=r"as labels, but has 1 in a\.parquet and '1' in b\.parquet"):
        scan(spec)
    tars = write_tars(
        tmp_path, a={"1.png": image(), "1.cls": b"1", "2.png": image(), "2.json": b'{"label": "1"}'}
    )
    with pytest.raises(ConfigError, match=r"as labels, but has 1 in a\.tar and '1' in a\.tar"):
        scan(tars)


@pytest.mark.parametrize(("column", "name"), [("label", "labels"), ("caption", "captions")])
def test_a_file_without_labels_or_captions_beside_one_with_them_is_refused(
    tmp_path: Path, column: str, name: str
) -> None:
    spec = write_parquet(tmp_path, a={column: ["cat", "dog"]}, b={})
    with pytest.raises(
        ConfigError, match=rf"must hold {name} in all its files, but a\.parquet has some and b\.parquet has"
    ):
        scan(spec)
    assert scan(spec.model_copy(update={"conditioning": "none"})).info.count == 3


def test_a_tar_file_without_labels_beside_one_with_them_is_refused(tmp_path: Path) -> None:
    spec = write_tars(tmp_path, a={"1.png": image()}, b={"1.png": image(), "1.cls": b"1"})
    with pytest.raises(
        ConfigError, match=r"labels in all its files, but b\.tar has some and a\.tar has none"
    ):
        scan(spec)


def test_null_labels_are_the_null_class(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, a={"label": [7, None]}, b={"label": [None, None]})
    found = scan(spec)
    assert found.info.class_names == ("7",)
    _, condition, _ = read_rows(spec, found.info, found.units[0], [0, 1])
    assert condition is not None
    assert condition.tolist() == [0, -1]


def test_a_class_called_none_is_no_missing_label(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, a={"label": ["None", "cat", None, "None"]})
    found = scan(spec)
    assert found.info.class_names == ("None", "cat")
    _, condition, _ = read_rows(spec, found.info, found.units[0], range(4))
    assert condition is not None
    assert condition.tolist() == [0, 1, -1, 0]


def test_labels_come_before_captions_unless_captions_are_asked_for(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, a={"label": [1, 2], "caption": ["a cat", "a dog"]})
    assert scan(spec).info.class_names == ("1", "2")
    text = scan(spec.model_copy(update={"conditioning": "text"}))
    assert text.info.vocabulary == ("<pad>", "a", "cat", "dog")


def test_annotations_that_are_not_read_need_not_be_valid(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, a={"label": [1, 2], "caption": [3, 4]})
    assert scan(spec).info.class_names == ("1", "2")


def test_samples_without_an_image_are_refused_or_skipped_by_their_names(tmp_path: Path) -> None:
    spec = write_tars(tmp_path, a={"1.png": image(), "2.heic": b"?", "3.txt": b"a cat"})
    words = r"2 of 3 have none: a\.tar sample 2, a\.tar sample 3"
    with pytest.raises(ConfigError, match=rf"must hold an image \(\.bmp, .*\) in each sample, but {words}"):
        scan(spec)
    with pytest.warns(UserWarning, match=rf"samples of .* were skipped: {words}"):
        assert scan(spec.model_copy(update={"corrupt": "skip"})).info.count == 1
