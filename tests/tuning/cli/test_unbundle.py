"""What `unbundle` prints goes on with the study that it wrote; what it cannot write is one line."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.bundle.packed import write_study
from tuning.bundle.pack import pack_study
from tuning.cli import main
from tuning.cli.options import read_settings
from tuning.study.config import StudyConfig


@pytest.fixture(autouse=True)
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle a.zip in the working folder."""
    study = {"confirm_seeds": [4, 9], "metric": "kid", "margin": 0.05}
    packed = pack_study(write_study(tmp_path / "far" / "first", study=study, data={"name": "images"}))
    (tmp_path / "a.zip").write_bytes(packed.content)
    monkeypatch.chdir(tmp_path)


def _tune(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["unbundle", *arguments])
    out, err = capsys.readouterr()
    assert caught.value.code == code, err
    return out or err


def test_the_command_goes_on_with_the_same_settings_under_the_same_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--output", "their runs", "--name", "again", "--data", "my images"]
    told: dict[str, Any] = json.loads(_tune(capsys, "a.zip", *where, "--json"))
    assert (told["written"], told["trials"]) == ("their runs/again", 8)
    assert told["notes"] == [
        "the bundle does not hold Optuna's study: further schedules are suggested without those that were tried"
    ]
    words = shlex.split(told["search"])
    command = words[words.index("search") :]
    assert command[-4:] == ["--name", "again", "--output", "their runs"]
    file = Path(command[command.index("--config") + 1])
    sets = [value for option, value in pairwise(command) if option == "--set"]
    config = read_settings(StudyConfig, file, tuple(sets), {})
    assert (config.confirm_seeds, config.metric, config.margin) == ((4, 9), "kid", 0.05)
    assert config.run.data.name == str(Path("my images").absolute())
    assert config.run.data.name in file.read_text()


def test_the_lines_say_what_was_written_and_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _tune(capsys, "a.zip", "--data", "images").splitlines()
    assert [line.split()[0] for line in lines] == ["written", "answer", "note", "go"]
    assert lines[0] == "written   runs/first: study first, 8 trials that ended"
    again = _tune(capsys, "a.zip", "--data", "images", code=2)
    assert again == (
        "error: runs/first exists: choose another --name or --output, or go on with the study there\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["b.zip"], "b.zip cannot be read: No such file or directory"),
        (["a.zip", "--data", "x", "--path", "data.name=y"], "both say where data.name lies: leave one out"),
        (["a.zip"], "was trained with images as data.name, which a bundle does not hold"),
        (["a.zip", "--data", "x", "--output", "a.zip"], "--output a.zip cannot be written: File exists"),
        (["a.zip", "--data", "x", "--name", "a/b"], "a name must be one that a folder can have"),
        (["a.zip", "--data", "x", "--output", "s3://bucket/runs"], "needs a path of this machine"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    line = _tune(capsys, *arguments, code=2)
    assert line.count("\n") == 1
    assert says in line
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_code_of_a_bundle_is_named_and_not_consented_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = pack_study(
        write_study(tmp_path / "far" / "code", model={"kind": "python", "path": "antigravity.Net"})
    )
    (tmp_path / "b.zip").write_bytes(packed.content)
    told: dict[str, Any] = json.loads(_tune(capsys, "b.zip", "--json"))
    assert "--trust-code" not in told["search"]
    assert told["notes"][-1] == "its runs import antigravity.Net: search asks for --trust-code"
