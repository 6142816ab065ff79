"""What folders mean: splits, classes, parts of one set and kohya-style repeats, and the line where two readings are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import DataSpec, DataWarning
from curriculum_ray.data.layout import read_layout, read_repeats
from curriculum_ray.data.splits import split_of_file, split_of_folder
from tests.data.folders import captions_of, draw, load, refused

SPLITS = [
    f"{split}/{name}/{number}.png"
    for split in ("train", "test")
    for name in ("cat", "dog")
    for number in (0, 1)
]


def test_train_is_read_where_there_are_splits_and_a_line_says_so(tmp_path: Path) -> None:
    draw(tmp_path, *SPLITS)
    with pytest.warns(
        DataWarning,
        match=r"in the splits train \(4\), test \(4\), of which train is read: data\.split chooses",
    ):
        data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.condition is not None
    assert data.condition.tolist() == [0, 0, 1, 1]
    assert data.summary is not None
    assert (data.summary.splits, data.summary.split) == ({"train": 4, "test": 4}, "train")


@pytest.mark.parametrize(("split", "count"), [("all", 8), ("test", 4), ("train", 4)])
def test_a_split_is_chosen_without_a_word(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, split: str, count: int
) -> None:
    draw(tmp_path, *SPLITS)
    data = load(tmp_path, split=split)
    assert (len(data), data.class_names) == (count, ("cat", "dog"))
    assert not recwarn.list


def test_split_none_reads_the_names_as_classes(tmp_path: Path) -> None:
    draw(tmp_path, *SPLITS)
    assert load(tmp_path, split="none").class_names == ("test", "train")


def test_a_split_that_is_not_there_and_splits_without_train_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "val/a/1.png", "test/a/1.png")
    refused(
        tmp_path,
        r"but got train: it has validation \(1\), test \(1\)",
        split="train",
    )
    refused(tmp_path, "but no train split: choose one, or all, with data.split")
    assert len(load(tmp_path, split="val")) == 1


@pytest.mark.parametrize("wrapper", ["", "data/", "images/"])
@pytest.mark.parametrize("order", ["{split}/{name}", "{name}/{split}", "{split}/images/{name}"])
def test_classes_are_found_below_above_and_around_splits(tmp_path: Path, wrapper: str, order: str) -> None:
    names = [order.format(split=split, name=name) for split in ("train", "valid") for name in ("cat", "dog")]
    draw(tmp_path, *(f"{wrapper}{name}/1.png" for name in names))
    with pytest.warns(DataWarning, match="train is read"):
        data = load(tmp_path)
    assert (len(data), data.class_names) == (2, ("cat", "dog"))


def test_a_class_called_train_is_one_beside_others_and_a_line_says_so(tmp_path: Path) -> None:
    draw(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    with pytest.warns(
        DataWarning, match="the folder train is read as a class, like bus, car, not as a split"
    ):
        assert load(tmp_path).class_names == ("bus", "car", "train")


def test_splits_beside_other_folders_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "train/1.png", "test/1.png", "unlabelled/1.png")
    refused(tmp_path, r"split folders \(test, train\) beside others \(unlabelled\)")
    assert len(load(tmp_path, split="none").class_names) == 3


def test_only_the_class_folders_of_the_split_must_be_filled(tmp_path: Path) -> None:
    draw(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/fox/1.png")
    (tmp_path / "train/fox").mkdir()
    refused(tmp_path, "train must hold images in each of its class folders, but fox has none")
    (tmp_path / "train/fox").rmdir()
    assert load(tmp_path).class_names == ("cat", "dog")


def test_classes_below_one_folder_are_said_not_to_be_read(tmp_path: Path) -> None:
    draw(tmp_path, "pets/cat/1.png", "pets/dog/1.png")
    with pytest.warns(
        DataWarning, match=r"folders cat, dog are not read as classes: data\.name .*/pets does so"
    ):
        assert load(tmp_path).condition is None


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train", "Train", "training_set", "train2017", "trainset", "train-images"), "train"),
        (("val", "valid", "validation", "dev", "val2017"), "validation"),
        (("test", "TEST", "testing", "eval", "test1"), "test"),
        (("trains", "tests", "training wheels", "devil", "valley", "contest", "evaluate"), None),
    ],
)
def test_names_of_splits(names: tuple[str, ...], split: str | None) -> None:
    found = {split_of_folder(name) for name in names}
    assert found == {split} or names[0] == "trains"
    if names[0] == "trains":
        assert found <= {None, "train", "test"}


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("imagenet1k-validation-00.tar", "validation"),
        ("test/0.tar", "test"),
        ("plain-0.tar", None),
        ("latest.tar", None),
        ("train-test.tar", None),
    ],
)
def test_splits_of_shards_are_words_of_their_paths(path: str, split: str | None) -> None:
    assert split_of_file(path) == split


def test_numbered_parts_with_captions_are_no_classes(tmp_path: Path) -> None:
    for part in ("00000", "00001"):
        draw(tmp_path, f"{part}/1.png")
        (tmp_path / part / "1.txt").write_text(f"a thing of {part}")
    with pytest.warns(DataWarning, match="folders 00000, 00001 are read as parts of one set"):
        assert captions_of(load(tmp_path)) == ["a thing of 00000", "a thing of 00001"]
    assert load(tmp_path, conditioning="class").class_names == ("00000", "00001")


def test_numbered_folders_without_captions_are_classes_with_a_line(tmp_path: Path) -> None:
    draw(tmp_path, "00000/1.png", "00001/1.png")
    with pytest.warns(DataWarning, match="are read as classes: data.conditioning none reads them as parts"):
        assert load(tmp_path).class_names == ("00000", "00001")


def test_digits_are_classes_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    draw(tmp_path, *(f"{digit}/1.png" for digit in range(10)))
    assert load(tmp_path).class_names == tuple("0123456789")
    assert not recwarn.list


def kohya(root: Path) -> None:
    for folder, count in (("10_sks cup", 2), ("4_cup", 1)):
        for number in range(count):
            draw(root, f"{folder}/{number}.png")
    (root / "10_sks cup/0.txt").write_text("a sks cup")
    (root / "4_cup/0.caption").write_text("a cup")


def test_repeats_are_honoured_as_shares_and_named(tmp_path: Path) -> None:
    kohya(tmp_path)
    with pytest.warns(DataWarning, match=r"repeats \(per epoch: 10_sks cup 5 times, 4_cup 2 times\)"):
        data = load(tmp_path)
    assert captions_of(data) == ["a sks cup"] * 5 + ["sks cup"] * 5 + ["a cup"] * 2
    assert data.items.unique(dim=0).shape[0] == 3
    torch.testing.assert_close(data.items[0], data.items[4], rtol=0, atol=0)


def test_labelled_images_are_repeated_too(tmp_path: Path) -> None:
    draw(tmp_path, "1_cat/a.png", "3_dog/b.png")
    lines = [
        f'{{"file_name": "{name}", "kind": {kind}}}'
        for name, kind in (("1_cat/a.png", 5), ("3_dog/b.png", 4))
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.warns(DataWarning, match="kohya-style repeats"):
        data = load(tmp_path, label_column="kind", repeats=True)
    assert data.class_names == ("4", "5")
    assert data.condition is not None
    assert data.condition.tolist() == [1, 0, 0, 0]
    assert len(data.stored) == 4


def test_repeats_are_ignored_or_classes_where_that_is_said(tmp_path: Path) -> None:
    kohya(tmp_path)
    assert len(load(tmp_path, repeats=False)) == 3
    assert load(tmp_path, conditioning="class").class_names == ("10_sks cup", "4_cup")
    draw(tmp_path, "plain/1.png")
    refused(tmp_path, "data.repeats needs all images of .* in folders named N_name", repeats=True)


def test_folders_without_captions_beside_the_images_ask_for_no_repeats(tmp_path: Path) -> None:
    draw(tmp_path, "1_cat/1.png", "2_dog/1.png")
    with pytest.warns(
        DataWarning, match="folders 1_cat, 2_dog are not read as repeats, .*: data.repeats true does"
    ):
        data = load(tmp_path)
    assert (len(data), data.class_names) == (2, ("1_cat", "2_dog"))
    assert len(load(tmp_path, repeats=True)) == 3
    assert read_repeats(("0_a", "1_b")) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("images", "masks"),
            "the folder images is read as a class, like masks: data.name .*/images reads only",
        ),
        (("Cat", "cat"), "folders Cat and cat are two classes, although they differ only in case"),
        (("caf\u00e9", "cafe\u0301"), "are two classes, although they differ only in case or spelling"),
    ],
)
def test_folders_that_may_be_no_classes_are_named(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    draw(tmp_path, *(f"{name}/1.png" for name in names))
    with pytest.warns(DataWarning, match=words):
        assert len(load(tmp_path).class_names) == 2


def test_images_and_classes_keep_their_order(tmp_path: Path) -> None:
    paths = [PurePosixPath(name) for name in ("b/2.png", "b/10.png", "c/1.png")]
    layout = read_layout(paths, None, "set")
    assert (layout.kept, layout.classes, layout.notes) == ((0, 1, 2), ("b", "b", "c"), ())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "train"}, "data.split is for data on disk, not for the digits"),
        ({"name": "x", "format": "parquet", "repeats": True}, "data.repeats is for image folders"),
        (
            {"name": "x", "format": "latents", "caption_column": "a"},
            "data.caption_column is for images, not for",
        ),
        ({"name": "x", "conditioning": "class", "caption_column": "a"}, "data.caption_column needs captions"),
        ({"name": "x", "conditioning": "text", "label_column": "a"}, "data.label_column needs labels"),
        *(
            (
                {"name": "x", "format": form, "label_column": "a", "caption_column": "b"},
                "label_column and data.caption_column must not both be given, .*: leave one out, but got a and b",
            )
            for form in ("folder", "parquet", "webdataset")
        ),
        (
            {"name": "x", "conditioning": "none", "image_column": "a"},
            "data.image_column of a folder is read with labels or captions, but data.conditioning is none",
        ),
        (
            {"name": "x", "conditioning": "class", "repeats": True},
            r"data\.repeats must be false or left out where data\.conditioning is class, .* but got True",
        ),
    ],
)
def test_settings_that_do_not_apply_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(DataSpec, settings, "test.yaml")


def test_the_same_settings_are_taken_where_they_apply() -> None:
    for settings in (
        {"format": "parquet", "conditioning": "none", "image_column": "a"},
        {"conditioning": "class", "repeats": False},
        {"conditioning": "none", "repeats": True},
    ):
        spec = parse(DataSpec, {"name": "x", **settings}, "test.yaml")
        assert spec.model_dump(include={*settings}) == settings
