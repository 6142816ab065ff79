"""Parquet shards: types of columns that are refused by the schema, and damage reported in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec
from curriculum_ray.data.parquet import parquet_fetch, parquet_header
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), value + 1).save(buffer, format="PNG")
    return buffer.getvalue()


def write(folder: Path, columns: dict[str, Any], **options: Any) -> str:
    columns = {"image": [encoded(number) for number in range(2)], **columns}
    parquet.write_table(pyarrow.table(columns), folder / "a.parquet", **options)
    return str(folder / "a.parquet")


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        ([1, 2], "int64"),
        (["a.png", "b.png"], "string"),
        ([{"path": "a.png"}, {"path": "b.png"}], "struct<path: string>"),
        ([{"bytes": "a"}, {"bytes": "b"}], "struct<bytes: string>"),
    ],
)
def test_a_column_that_holds_no_images_is_refused_by_its_type(
    tmp_path: Path, images: list[Any], kind: str
) -> None:
    path = write(tmp_path, {"image": images})
    with pytest.raises(ConfigError, match=rf"a\.parquet must have a column `image` of .* but got {kind}"):
        parquet_header(path, "none")


@pytest.mark.parametrize(
    "type_",
    [
        pyarrow.large_binary(),
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    ],
)
def test_encoded_images_are_read_from_bytes_and_structs(tmp_path: Path, type_: Any) -> None:
    content = [encoded(0), encoded(1)]
    images = [{"bytes": each, "path": "a.png"} for each in content] if type_.num_fields else content
    header = parquet_header(write(tmp_path, {"image": pyarrow.array(images, type_)}), "none")
    fetch = parquet_fetch(header.units[0], "none")
    assert [fetch(row) for row in range(2)] == [(each, None) for each in content]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("label", [1.0, 2.0], "`label` of integers or strings, but got double"),
        ("label", [[1], [2]], "`label` of integers or strings, but got list"),
        ("caption", [1, 2], "`caption` of strings, but got int64"),
    ],
)
def test_a_column_of_another_type_is_refused_where_it_is_read(
    tmp_path: Path, name: str, values: list[Any], words: str
) -> None:
    path = write(tmp_path, {name: values})
    with pytest.raises(ConfigError, match=rf"a\.parquet must have a column {words}"):
        parquet_header(path, "class" if name == "label" else "text")
    assert parquet_header(path, "none").rows == 2


@pytest.mark.parametrize("wanted", ["class", "none"])
def test_two_columns_or_fields_of_one_name_are_refused(tmp_path: Path, wanted: Any) -> None:
    path = tmp_path / "a.parquet"
    columns = [pyarrow.array([encoded(0)]), pyarrow.array([1]), pyarrow.array([2])]
    parquet.write_table(pyarrow.table(columns, ["image", "label", "label"]), path)
    with pytest.raises(ConfigError, match=rf"^{path} must have each column once, but has label twice$"):
        parquet_header(str(path), wanted)
    struct = pyarrow.StructArray.from_arrays(
        [columns[0], pyarrow.array(["a"]), pyarrow.array(["b"])], ["bytes", "path", "path"]
    )
    parquet.write_table(pyarrow.table({"image": struct}), path)
    with pytest.raises(ConfigError, match=r"must have each column once, but has image\.path twice$"):
        parquet_header(str(path), wanted)


def test_categories_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path, {"label": pyarrow.array(["cat", "dog"]).dictionary_encode()})
    assert parquet_header(path, "class").values == ("cat", "dog")


def test_a_caption_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    captions = pyarrow.array([b"caf\xe9", b"tea"], pyarrow.binary()).view(pyarrow.string())
    with pytest.raises(ConfigError, match=r"a\.parquet cannot be read as Parquet: .*utf-8"):
        parquet_header(write(tmp_path, {"caption": captions}), "text")


@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
def test_damaged_pages_are_refused_even_where_corrupt_images_are_skipped(
    tmp_path: Path, corrupt: Any
) -> None:
    path = Path(write(tmp_path, {}))
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(content)
    spec = DataSpec(name=str(tmp_path), format="parquet", corrupt=corrupt)
    found = scan(spec)
    with pytest.raises(ConfigError, match=r"a\.parquet row group 0 cannot be read as Parquet") as error:
        read_rows(spec, found.info, found.units[0], [0])
    assert "\n" not in str(error.value)


def test_checksums_find_damage_that_decodes(tmp_path: Path) -> None:
    path = Path(write(tmp_path, {"label": [1000, 2000]}, compression="none", write_page_checksum=True))
    content = path.read_bytes()
    path.write_bytes(content.replace((1000).to_bytes(8, "little"), (1001).to_bytes(8, "little"), 1))
    with pytest.raises(ConfigError, match=r"a\.parquet cannot be read as Parquet: .*CRC"):
        parquet_header(str(path), "class")
