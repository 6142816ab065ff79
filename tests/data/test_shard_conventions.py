"""Shards of img2dataset, webdataset and Hugging Face datasets: what is read, chosen and refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, DataSpec, DataWarning, data_info
from curriculum_ray.data.digests import same_content
from curriculum_ray.data.inspection import describe
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan


def image(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def table(
    path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pyarrow.table(columns)
    if features:
        note = json.dumps({"info": {"features": features}}).encode()
        content = content.replace_schema_metadata({"huggingface": note})
    parquet.write_table(content, path, **options)
    return path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def info(root: Path, form: str = "parquet", **settings: Any) -> DataInfo:
    return data_info(DataSpec(name=str(root), format=form, image_size=8, **settings))  # type: ignore[arg-type]


def annotations(root: Path, form: str = "parquet", **settings: Any) -> list[str]:
    """The caption or class name of each image."""
    spec = DataSpec(name=str(root), format=form, image_size=8, **settings)  # type: ignore[arg-type]
    found = scan(spec)
    out: list[str] = []
    for unit in found.units:
        _, condition, _ = read_rows(spec, found.info, unit, range(unit.rows))
        assert condition is not None
        if found.info.conditioning.kind == "class":
            out += ["-" if row < 0 else found.info.class_names[row] for row in condition.tolist()]
        else:
            out += [
                " ".join(found.info.vocabulary[token] for token in row if token) for row in condition.tolist()
            ]
    return out


IMAGES = [image(number) for number in range(3)]


@pytest.mark.parametrize("column", ["caption", "text", "TEXT", "prompt", "description"])
@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_usual_columns_of_captions_are_read(tmp_path: Path, column: str, kind: str) -> None:
    texts = pyarrow.array(["a cat", None, "a dog"])
    texts = texts.dictionary_encode() if kind == "dictionary" else texts.cast(kind)
    table(tmp_path / "a.parquet", {"image": IMAGES, column: texts})
    assert annotations(tmp_path) == ["a cat", "", "a dog"]
    summary = info(tmp_path).summary
    assert summary is not None
    assert (summary.conditioning_from, summary.unlabelled) == (f"column {column}", 1)


def test_columns_that_are_not_read_are_named_with_the_setting(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"image": IMAGES, "legend": ["a cat"] * 3})
    with pytest.warns(
        DataWarning, match=r"images are unlabelled, but a\.parquet has columns legend, which data\."
    ):
        assert not info(tmp_path).conditioning
    assert annotations(tmp_path, caption_column="legend") == ["a cat"] * 3
    with pytest.raises(ConfigError, match=r"data\.caption_column must be a column or key of .* but got gone"):
        info(tmp_path, caption_column="gone")


@pytest.mark.parametrize("column", ["labels", "cls"])
def test_usual_columns_of_another_type_are_named(tmp_path: Path, column: str) -> None:
    table(tmp_path / "a.parquet", {"image": IMAGES, column: [[0, 1], [1], []]})
    with pytest.warns(DataWarning, match=rf"the images are unlabelled, but a\.parquet has columns {column},"):
        assert not info(tmp_path).conditioning
    with pytest.raises(ConfigError, match=f"column `{column}` of integers or strings, but got list"):
        info(tmp_path, label_column=column)


def test_labels_beside_captions_are_named(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"image": IMAGES, "label": [1, 2, 2], "text": ["a", "b", "c"]})
    with pytest.warns(DataWarning, match="trained on column label, not on columns text of a.parquet"):
        assert info(tmp_path).class_names == ("1", "2")


@pytest.mark.parametrize("column", ["img", "jpg", "picture", "anything"])
def test_the_only_column_of_images_is_read_whatever_its_name(tmp_path: Path, column: str) -> None:
    table(tmp_path / "a.parquet", {column: IMAGES, "label": [0, 1, 1]})
    assert annotations(tmp_path) == ["0", "1", "1"]


def test_of_several_columns_of_images_one_is_asked_for(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"before": IMAGES, "after": IMAGES[::-1]})
    with pytest.raises(ConfigError, match=r"images \(before, after\): choose one with data\.image_column"):
        info(tmp_path)
    spec = DataSpec(name=str(tmp_path), format="parquet", image_size=8, image_column="after")
    found = scan(spec)
    assert read_rows(spec, found.info, found.units[0], [0])[0][0, 0, 0, 0] == 2


def test_nested_columns_are_named_by_their_path(tmp_path: Path) -> None:
    samples = [
        {"image": {"bytes": each, "path": None}, "text": {"en": "a cat", "de": "eine Katze"}}
        for each in IMAGES
    ]
    table(tmp_path / "a.parquet", {"sample": samples, "n": [1, 2, 3]})
    with pytest.raises(
        ConfigError, match=r"must have a column `image`, .*: data\.image_column reads sample\.image"
    ):
        info(tmp_path)
    settings = {"image_column": "sample.image", "caption_column": "sample.text.de"}
    with pytest.raises(ConfigError, match=r"must be a column or key of"):
        info(tmp_path, **settings)
    flat = [{"image": each, "text": "eine Katze"} for each in IMAGES]
    table(tmp_path / "a.parquet", {"sample": flat})
    assert (
        annotations(tmp_path, image_column="sample.image", caption_column="sample.text") == ["eine katze"] * 3
    )


def test_class_labels_have_their_names_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    features = {"label": {"names": ["zebra", "ant", "never"], "_type": "ClassLabel"}}
    table(tmp_path / "a.parquet", {"image": IMAGES, "label": [1, -1, 0]}, features)
    found = info(tmp_path)
    assert (found.class_names, found.labels) == (("zebra", "ant"), (0, 1))
    assert annotations(tmp_path) == ["ant", "-", "zebra"]
    assert found.summary is not None
    assert (found.summary.classes, found.summary.unlabelled) == ({"zebra": 1, "ant": 1}, 1)
    table(
        tmp_path / "b.parquet",
        {"image": IMAGES, "label": [0, 1, 2]},
        {"label": {**features["label"], "names": list("abc")}},
    )
    with pytest.raises(ConfigError, match="must have the same class names in all files"):
        info(tmp_path)


def test_labels_of_another_name_come_after_captions(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"image": IMAGES, "category": ["x", "y", "y"]})
    assert annotations(tmp_path) == ["x", "y", "y"]
    table(tmp_path / "a.parquet", {"image": IMAGES, "category": ["x", "y", "y"], "caption": ["a", "b", "c"]})
    with pytest.warns(DataWarning, match="trained on column caption, not on columns category"):
        assert info(tmp_path).vocabulary == ("<pad>", "a", "b", "c")
    assert annotations(tmp_path, label_column="category") == ["x", "y", "y"]


def test_an_image_without_bytes_is_read_from_its_path_in_the_shards_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.png").write_bytes(image(7))
    (tmp_path / "secret.png").write_bytes(image(9))
    os.mkfifo(tmp_path / "data/pipe.png")
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])

    def first(path: str) -> int:
        rows = pyarrow.array([{"bytes": None, "path": path}], kind)
        table(tmp_path / "data/a.parquet", {"image": rows})
        spec = DataSpec(name=str(tmp_path / "data"), format="parquet", image_size=8)
        found = scan(spec)
        return int(read_rows(spec, found.info, found.units[0], [0])[0][0, 0, 0, 0])

    assert first("1.png") == 7
    for path in ("../secret.png", str(tmp_path / "secret.png"), "gone.png", "pipe.png"):
        with pytest.raises(ConfigError, match=f"must hold readable images|has no bytes for {path}"):
            first(path)


def test_shards_of_train_are_read_and_a_line_says_so(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        for number in range(count):
            table(
                tmp_path / f"data/{split}-{number:05d}-of-{count:05d}.parquet",
                {"image": IMAGES, "label": [0, 1, 2]},
            )
    with pytest.warns(
        DataWarning, match=r"shards are in the splits train \(2\), test \(1\), of which train is read"
    ):
        assert info(tmp_path).count == 6
    assert info(tmp_path, split="test").count == 3
    assert info(tmp_path, split="all").count == info(tmp_path, split="none").count == 9
    alone = tmp_path / "data/train-00000-of-00002.parquet"
    found = info(alone, split="train")
    assert found.count == info(alone).count == info(alone, split="all").count == 3
    assert found.summary is not None
    assert (found.summary.split, found.summary.splits) == ("train", {"train": 1})
    with pytest.raises(ConfigError, match=r"all or none, but got validation: it has train \(1\)"):
        info(alone, split="validation")
    unnamed = table(tmp_path / "a.parquet", {"image": IMAGES})
    with pytest.raises(ConfigError, match="it has no splits in the names of its folders and files"):
        info(unnamed, split="train")


def test_shards_are_found_as_folders_are_read(tmp_path: Path) -> None:
    tar(tmp_path / "set/00000.TAR", {"1.png": image()})
    tar(tmp_path / "elsewhere/1.tar", {"1.png": image(1)})
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    for name in (".hidden/2.tar", "3.tar.part", ".Trash-0/4.tar", "5.tar.gz", "00000.parquet"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"?")
    with pytest.warns(DataWarning, match=r"1 hidden.*1 in the trash.*1 half-trans.*|half-trans") as caught:
        found = info(tmp_path / "set", "webdataset")
    assert found.count == 2
    said = str(caught[0].message)
    assert "1 compressed files, which are not read (.gz), e.g. 5.tar.gz" in said
    assert "00000.parquet" not in said
    assert found.summary is not None
    assert (found.summary.used, found.summary.files) == (2, 7)
    assert "files beside the shards (.parquet)" in [each.kind for each in found.summary.left_out]


MEMBERS = {
    "txt": {"1.png": image(), "1.txt": b"a cat"},
    "caption": {"1.png": image(), "1.caption": b"a cat"},
    "text": {"1.JPG": image(), "1.TEXT": b"a cat"},
    "dots": {"1.v1.png": image(), "1.v1.txt": b"a cat"},
    "dots_apart": {"1.image.png": image(), "1.caption.txt": b"a cat"},
    "json": {"1.png": image(), "1.json": b'\xef\xbb\xbf{"text": "a cat", "url": "x"}'},
    "folders": {"./part/1.png": image(), "./part/1.txt": "\ufeffa cat".encode()},
    "junk": {
        "1.png": image(),
        "1.txt": b"a cat",
        "__MACOSX/._1.png": b"?",
        "._1.txt": b"?",
        ".DS_Store": b"?",
    },
}


@pytest.mark.parametrize("members", MEMBERS)
def test_usual_members_of_captions_are_read(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, members: str
) -> None:
    tar(tmp_path / "0.tar", MEMBERS[members])
    assert annotations(tmp_path, "webdataset") == ["a cat"]
    assert info(tmp_path, "webdataset").conditioning.kind == "tokens"
    assert not recwarn.list


def test_members_that_are_not_read_are_named_and_chosen(tmp_path: Path) -> None:
    tar(
        tmp_path / "0.tar",
        {"1.png": image(1), "1.mask.png": image(2), "1.legend": b"a cat", "1.json": b'{"kind": 4}'},
    )
    with pytest.warns(DataWarning, match=r"images are unlabelled, but 0\.tar has members \.legend"):
        assert not info(tmp_path, "webdataset").conditioning
    assert annotations(tmp_path, "webdataset", caption_column="legend") == ["a cat"]
    assert annotations(tmp_path, "webdataset", label_column="kind") == ["4"]
    spec = DataSpec(name=str(tmp_path), format="webdataset", image_size=8, image_column="mask.png")
    found = scan(spec)
    assert read_rows(spec, found.info, found.units[0], [0])[0][0, 0, 0, 0] == 2


def test_labels_are_read_from_where_the_scan_found_them(tmp_path: Path) -> None:
    for other in ("1.class", "1.label"):
        tar(
            tmp_path / "0.tar",
            {
                "1.png": image(1),
                "1.json": b'{"label": 7}',
                other: b"281",
                "2.png": image(2),
                "2.json": b'{"label": 8, "class": 281}',
                "3.png": image(3),
                f"3.{other[2:]}": b"7",
            },
        )
        assert annotations(tmp_path, "webdataset") == ["7", "8", "-"]
        tar(tmp_path / "0.tar", {"1.png": image(1), "1.json": b'{"label": 7}', "1.label": b"cat"})
        assert annotations(tmp_path, "webdataset") == ["7"]
        tar(tmp_path / "0.tar", {"1.png": image(1), other: b"281"})
        assert annotations(tmp_path, "webdataset") == ["281"]


def test_looking_at_a_stream_counts_sizes_repeats_and_broken_images(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet",
        {"image": [*IMAGES, IMAGES[0], b"?"], "label": [0, 1, 2, -1, 0]},
        row_group_size=2,
    )
    spec = DataSpec(name=str(path), format="parquet", image_size=8)
    found = data_info(spec)
    summary, shown = describe(spec, found, show=64)
    assert (summary.image_stats.images, summary.image_stats.sizes, summary.image_stats.duplicates) == (
        4,
        {"8x8": 4},
        1,
    )
    assert summary.image_stats.duplicate == ("a.parquet row 0", "a.parquet row 3")
    assert [each.kind for each in summary.left_out] == ["unreadable images among those inspected"]
    assert shown.texts == ("0", "1", "2", "")
    assert shown.items[:, 0, 0, 0].tolist() == [0, 1, 2, 0]


@pytest.mark.slow
def test_a_row_group_of_more_than_two_gib_is_read(tmp_path: Path) -> None:
    large = image(3) + bytes((1 << 24) - len(image(3)))
    kind = pyarrow.struct([("bytes", pyarrow.large_binary()), ("path", pyarrow.string())])
    rows = pyarrow.StructArray.from_arrays(
        [pyarrow.array([large] * 130, pyarrow.large_binary()), pyarrow.array(["x"] * 130)], fields=list(kind)
    )
    schema = pyarrow.schema(
        [("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))]
    )
    with parquet.ParquetWriter(
        tmp_path / "a.parquet", pyarrow.schema([("image", kind)]), store_schema=False
    ) as writer:
        writer.write_table(pyarrow.table({"image": rows}), row_group_size=1000)
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert (file.num_row_groups, file.schema_arrow) == (1, schema)
    del rows, file
    spec = DataSpec(name=str(tmp_path), format="parquet", image_size=8)
    found = scan(spec)
    images, _, _ = read_rows(spec, found.info, found.units[0], [0, 64, 129])
    assert images[:, 0, 0, 0].tolist() == [3, 3, 3]


def test_copies_of_whole_shards_are_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for number in range(12):
        tar(tmp_path / f"{number:02d}.tar", {f"{number}.png": image(number), f"{number}.cls": b"0"})
    assert info(tmp_path, "webdataset").summary.notes == ()  # type: ignore[union-attr]
    assert not recwarn.list
    (tmp_path / "again").mkdir()
    (tmp_path / "again/x.tar").write_bytes((tmp_path / "03.tar").read_bytes())
    with pytest.warns(
        DataWarning,
        match=r"1 shard has the content of another, whose images come more than once, e\.g\. 03\.tar and",
    ) as caught:
        assert info(tmp_path, "webdataset").count == 13
    assert "03.tar and again/x.tar" in str(caught[0].message)


def test_shards_that_differ_in_one_byte_are_no_copies(tmp_path: Path) -> None:
    content = bytearray(1 << 20)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(bytes(content))
        content[300_000] ^= name == "b"  # between the blocks that are sampled
    stamps = [(str(path), path.stat().st_size, 0) for path in sorted(tmp_path.iterdir())]
    names = [tuple(Path(path).name for path in pair) for pair in same_content(stamps)]
    assert names == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("kind", ["string", "dictionary", "class_label"])
def test_a_column_of_splits_is_named_and_all_of_its_rows_are_read(tmp_path: Path, kind: str) -> None:
    splits = pyarrow.array(["train", "train", "test"])
    features = {}
    if kind == "dictionary":
        splits = splits.dictionary_encode()
    elif kind == "class_label":
        splits = pyarrow.array([0, 0, 1])
        features = {"split": {"names": ["train", "test"], "_type": "ClassLabel"}}
    table(tmp_path / "a.parquet", {"image": IMAGES, "label": [0, 1, 1], "split": splits}, features)
    line = r"column split of a\.parquet is not read: images of all its splits are, train \(2\), test \(1\); data\."
    with pytest.warns(DataWarning, match=line) as said:
        assert info(tmp_path).count == 3
    assert len(said) == 1
    with pytest.raises(ConfigError, match="has no splits in the names of its folders and files"):
        info(tmp_path, split="train")


def test_a_column_of_one_split_needs_no_line(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    table(tmp_path / "a.parquet", {"image": IMAGES, "label": [0, 1, 1], "split": ["train"] * 3})
    assert info(tmp_path).count == 3
    assert not recwarn.list


def test_values_in_the_names_of_folders_are_said_not_to_be_read(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        table(tmp_path / f"label={name}/0.parquet", {"image": [image(len(name)), image(ord(name[0]))]})
    line = r"folders label=cat, label=dog are read as one set, and the values of label in their names are not read"
    with pytest.warns(DataWarning, match=line):
        assert info(tmp_path).count == 4
