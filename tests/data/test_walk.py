"""Which files of a folder are data: what programs and systems leave behind is left out, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from curriculum_ray.data import DataWarning
from curriculum_ray.data.walk import find_files
from tests.data.folders import draw, load

LEFT = {
    ".cache/a.png": "hidden",
    ".a.png": "hidden",
    "cat/.ipynb_checkpoints/a-checkpoint.png": "notebook checkpoints",
    "__MACOSX/cat/a.png": "AppleDouble files",
    "cat/._a.png": "AppleDouble files",
    ".Trash-1000/files/a.png": "in the trash",
    "$RECYCLE.BIN/a.png": "in the trash",
    "@eaDir/a.png": "thumbnails of the system",
    "a.png.part": "half-transferred",
    "a.png.crdownload": "half-transferred",
    "b.PNG.TMP": "half-transferred",
    "b.png.download/b.png": "half-transferred",
    "a.png~": "backup copies",
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_behind_is_no_data_and_is_said(tmp_path: Path, name: str) -> None:
    draw(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    draw(tmp_path, name)
    with pytest.warns(DataWarning, match=f"left out: 1 {LEFT[name]}, e.g. ") as caught:
        data = load(tmp_path)
    assert [each.category for each in caught].count(DataWarning) == 1
    assert (len(data), data.class_names) == (2, ("cat", "dog"))
    assert data.summary is not None
    assert [(each.kind, each.count, each.example) for each in data.summary.left_out] == [
        (LEFT[name], 1, name)
    ]
    assert (data.summary.files, data.summary.used) == (3, 2)


def test_a_file_beside_its_download_programs_notes_is_half_transferred(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png.aria2").touch()
    with pytest.warns(DataWarning, match="2 half-transferred"):
        assert len(load(tmp_path)) == 1


def test_folders_named_like_waste_are_classes(tmp_path: Path) -> None:
    draw(tmp_path, "trash/1.png", "paper/1.png")
    assert load(tmp_path).class_names == ("paper", "trash")


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    draw(tmp_path, "elsewhere/deep/1.png", "root/a/2.png")
    (tmp_path / "root/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "root")
    names = [
        path.relative_to(tmp_path / "root").as_posix() for path in find_files(tmp_path / "root", ()).files
    ]
    assert names == ["a/2.png", "b/deep/1.png"]


def test_a_pipe_named_like_an_image_does_not_stop_the_run_for_ever(tmp_path: Path) -> None:
    import os

    draw(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=r"1 of 2 cannot be read:\nb\.png \(ValueError\)"):
        assert len(load(tmp_path, corrupt="skip")) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.heic", b"?", r"images in an unsupported format \(\.heic\)"),
        ("b.zip", b"?", r"archives beside the images \(\.zip\)"),
        ("b", b"\x89PNG\r\n\x1a\n", r"images without an image suffix \(none\)"),
        ("b.image", b"\xff\xd8\xff\xe0", r"images without an image suffix \(\.image\)"),
        ("captions.csv", b"?", r"tables and texts that are not read \(\.csv\)"),
    ],
)
def test_files_that_a_person_may_have_meant_are_said(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    draw(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content)
    with pytest.warns(DataWarning, match=f"left out: 1 {words}, e.g. {name}"):
        load(tmp_path)


def test_ordinary_company_of_images_is_counted_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    draw(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "README.md").touch()
    (tmp_path / ".DS_Store").touch()
    summary = load(tmp_path).summary
    assert summary is not None
    assert [each.kind for each in summary.left_out] == ["hidden", "other files (.md)"]
    assert not recwarn.list
