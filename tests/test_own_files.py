"""Protects: no command writes over what somebody else wrote, nor over its own file that was edited since."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, DifficultyCurve
from curriculum_ray.own_files import check_own, write_own


def _png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), grey).save(buffer, format="PNG")
    return buffer.getvalue()


CURVE = DifficultyCurve(kind="snr", data="d", process="p", u=(0.0, 0.5, 1.0), difficulty=(2.0, 1.0))
CONTENTS: dict[str, tuple[bytes, bytes]] = {
    "schedule.yaml": (b"# best\nversion: 1\n", b"version: 1\nbase: {kind: uniform}\n"),
    "samples.png": (_png(0), _png(9)),
    "page.html": (b"<!doctype html>\n<p>one</p>\n", b"<!doctype html>\n<p>two</p>\n"),
    "page.md": (b"# One\n", b"# Two\n"),
    "snr.json": (CURVE.model_dump_json().encode(), b'{"version": 1, "meta": {"steps": 3}}'),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_an_own_file_is_replaced(tmp_path: Path, name: str) -> None:
    path, (first, second) = tmp_path / name, CONTENTS[name]
    for content in (first, second, second):
        assert write_own(path, content) is None
        check_own(path)
    assert [found.name for found in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", CONTENTS)
def test_somebody_elses_file_is_refused_and_with_force_kept(tmp_path: Path, name: str) -> None:
    path, (first, second) = tmp_path / name, CONTENTS[name]
    path.write_bytes(first)
    for refused in (lambda: check_own(path), lambda: write_own(path, second)):
        with pytest.raises(ConfigError, match=r"was not written by this command.*--force") as error:
            refused()
        assert "\n" not in str(error.value)
    assert path.read_bytes() == first
    kept = write_own(path, second, force=True)
    assert kept is not None
    assert kept.read_bytes() == first


@pytest.mark.parametrize("name", CONTENTS)
def test_an_own_file_that_was_edited_is_kept_aside(tmp_path: Path, name: str) -> None:
    path, (first, second) = tmp_path / name, CONTENTS[name]
    write_own(path, first)
    whole = path.read_bytes()
    edited = whole.replace(b"2.0", b"2.5") if name.endswith("json") else whole + b"# mine\n"
    assert edited != whole
    path.write_bytes(edited)
    kept = write_own(path, second)
    assert kept is not None
    assert kept.read_bytes() == edited
    path.write_bytes(path.read_bytes().replace(b"3", b"4") + b" ")
    if name == "schedule.yaml":
        assert write_own(path, first) == tmp_path / "schedule.yaml.kept-2"


def test_a_marked_file_still_means_the_same(tmp_path: Path) -> None:
    write_own(tmp_path / "s.yaml", CurriculumSchedule.uniform().to_yaml())
    assert CurriculumSchedule.from_file(tmp_path / "s.yaml") == CurriculumSchedule.uniform()
    write_own(tmp_path / "a.png", _png(7))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.getpixel((1, 1)) == 7
        assert "curriculum-ray" in image.info
    write_own(tmp_path / "c.json", CURVE.model_dump_json())
    again = DifficultyCurve.from_file(tmp_path / "c.json")
    assert again.model_copy(update={"meta": {}}) == CURVE
    assert "sha256" in json.loads((tmp_path / "c.json").read_text())["meta"]["written_by"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_own(tmp_path / "file" / "s.yaml", "version: 1\n")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name in ("folder.yaml", "link.yaml"):
        with pytest.raises(ConfigError, match="is not a file"):
            check_own(tmp_path / name)
        kept = write_own(tmp_path / name, "version: 1\n", force=True)
        assert kept == tmp_path / f"{name}.kept-1"
        assert (tmp_path / name).is_file()
    assert (tmp_path / "folder.yaml.kept-1").is_dir()
    assert (tmp_path / "link.yaml.kept-1").readlink() == Path("nowhere")
