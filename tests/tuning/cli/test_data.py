"""`tune data`: what it prints and writes, and that it writes over nothing of anybody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from curriculum_ray.data import DataSpec, load_data
from tests.data.folders import draw
from tuning.cli import main
from tuning.study.data_summary import keep_summary


def tune(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_it_says_what_is_used_and_left_out_and_shows_the_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    draw(tmp_path / "set", "train/cat/1.png", "train/dog/1.png", "test/dog/2.png", "train/dog/3.png.part")
    code, out, err = tune(capsys, "data", str(tmp_path / "set"), "--output", str(tmp_path))
    assert (code, err) == (0, "")
    # The lines say it: a warning would say it twice.
    assert not [each for each in recwarn.list if "left out" in str(each.message)]
    for line in (
        "2 items of 3x32x32, 2 classes",
        "files     4 found, 2 used",
        "splits    train (2), test (1); read: train",
        "classes   cat (1), dog (1)",
        "left out  1 half-transferred, e.g. train/dog/3.png.part",
        "train is read: data.split chooses another",
    ):
        assert line in out
    with Image.open(tmp_path / "data-set.png") as sheet:
        assert sheet.width > sheet.height > 96
        colours = sheet.convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 2
    kept = json.loads((tmp_path / "data-set.json").read_text())
    assert (kept["items"], kept["splits"], kept["classes"]) == (
        2,
        {"train": 2, "test": 1},
        {"cat": 1, "dog": 1},
    )


@pytest.mark.parametrize("name", ["data-digits.png", "data-digits.json"])
def test_only_its_own_files_are_replaced_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command = ("data", "--output", str(tmp_path))
    assert tune(capsys, *command)[0] == tune(capsys, *command)[0] == 0
    (tmp_path / name).write_text("somebody's")
    code, _, err = tune(capsys, *command)
    assert code == 2
    assert f"{name} exists, and was not written by this command" in err
    assert (tmp_path / name).read_text() == "somebody's"
    assert tune(capsys, *command, "--force")[0] == 0
    assert (tmp_path / name).read_bytes() != b"somebody's"
    assert (tmp_path / f"{name}.kept-1").read_text() == "somebody's"


def test_names_of_classes_are_printed_and_never_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("[bold]", "two\nlines", "\x1b[31mred", "\u2028", "می\u200cخواهم")):
        draw(tmp_path / "set", f"{name}/{number}.png")
    code, out, _ = tune(capsys, "data", str(tmp_path / "set"), "--output", str(tmp_path))
    assert code == 0
    (line,) = [line for line in out.split("\n") if line.startswith("  classes")]
    assert {"[bold] (1)", r"two\nlines (1)", r"\x1b[31mred (1)", r"\u2028 (1)", "می\u200cخواهم (1)"} == {
        each.strip() for each in line.removeprefix("  classes").split(", ")
    }


def test_names_that_are_no_text_are_escaped_in_what_is_written_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "set", "caf\udce9/1.png", "two\nlines/2.png")
    command = ("data", str(tmp_path / "set"), "--output", str(tmp_path))
    assert tune(capsys, *command)[0] == tune(capsys, *command)[0] == 0
    escaped = {r"caf\udce9": 1, r"two\nlines": 1}
    assert json.loads((tmp_path / "data-set.json").read_text())["classes"] == escaped
    code, out, _ = tune(capsys, *command, "--json")
    assert (code, json.loads(out)["classes"]) == (0, escaped)
    summary = load_data(DataSpec(name=str(tmp_path / "set"))).summary
    assert summary is not None
    assert json.loads(keep_summary(summary, tmp_path / "kept.json").read_text())["classes"] == escaped


def test_a_set_behind_a_link_has_a_name_that_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "caf\udce9", "1.png", "2.png")
    (tmp_path / "link").symlink_to(tmp_path / "caf\udce9")
    assert tune(capsys, "data", str(tmp_path / "link"), "--output", str(tmp_path))[0] == 0
    assert (tmp_path / r"data-caf\udce9.json").is_file()


def test_captions_of_many_pages_are_cut_and_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL.ImageFont import FreeTypeFont

    draw(tmp_path / "set", "1.png", "2.png")
    (tmp_path / "set/1.txt").write_text("many words " * 5000)
    (tmp_path / "set/2.txt").write_text("x" * 50_000)
    measured, usual = list[int](), FreeTypeFont.getlength

    def getlength(font: FreeTypeFont, text: str) -> float:
        measured.append(len(text))
        return usual(font, text)

    monkeypatch.setattr(FreeTypeFont, "getlength", getlength)
    assert tune(capsys, "data", str(tmp_path / "set"), "--output", str(tmp_path))[0] == 0
    assert 0 < max(measured) <= 400


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = tune(capsys, "data", "tones", "--output", str(tmp_path), "--json")
    assert code == 0
    assert json.loads(out)["items"] == sum(json.loads(out)["classes"].values()) == 8192


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "data.name must be"),
        (("digits", "--set", "data.split=train"), "data.split is for data on disk"),
        (("digits", "--set", "images=3"), "images is not a known key"),
        (
            ("--every",),
            "--every is for shards of images, data.format parquet or webdataset, but data.name is digits",
        ),
        ((".", "--every"), "but data.format is folder"),
        ((".", "--every", "--set", "data.format=latents"), "but data.format is latents"),
    ],
)
def test_bad_input_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = tune(capsys, "data", *arguments, "--output", str(tmp_path))
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_data_of_one_name_in_two_places_do_not_overwrite_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("one", "two"):
        draw(tmp_path / place / "set", "1.png", "2.png")
    command = ["data", str(tmp_path / "one" / "set"), "--output", str(tmp_path)]
    assert tune(capsys, *command)[0] == tune(capsys, *command)[0] == 0
    command[1] = str(tmp_path / "two" / "set")
    code, _, err = tune(capsys, *command)
    assert code == 2
    assert f"data-set.json is of the data in {tmp_path / 'one' / 'set'}, not of " in err
    assert tune(capsys, *command, "--force")[0] == 0


def test_a_single_item_is_counted_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "set", "1.png")
    code, out, _ = tune(capsys, "data", str(tmp_path / "set"), "--output", str(tmp_path))
    assert code == 0
    assert "1 item of 3x32x32" in out
