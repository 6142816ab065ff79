"""Printed commands run in the very shell that ran the last one."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from curriculum_ray.shell import tune_command


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is that of a Python in a folder of its own, on nobody's PATH, started by `-m tune`."""
    program = tmp_path / "env dir" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr("sys.argv", [str(tmp_path / "tune.py"), "search"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return program


def test_words_are_quoted(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(python.parent))
    line = tune_command("train", "--output", Path("my runs/$HOME"), "--num-workers", 2)
    words = ["python", "-m", "tune", "train", "--output", "my runs/$HOME", "--num-workers", "2"]
    assert shlex.split(line) == words


def test_a_python_that_is_not_on_the_path_is_named_as_a_person_would_type_it(
    python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shlex.split(tune_command("best"))[0] == str(python)
    monkeypatch.chdir(python.parent.parent)
    assert tune_command("best") == "bin/python -m tune best"
    monkeypatch.chdir(python.parent.parent.parent)
    line = f"{tune_command('-c', 'print(7)')}".replace("-m tune ", "")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"


def test_another_python_of_the_same_name_does_not_count(
    python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = python.parent.parent / "other"
    other.mkdir()
    (other / "python").symlink_to(python.resolve())
    monkeypatch.setenv("PATH", str(other))
    assert shlex.split(tune_command("best"))[0] == str(python)


def test_the_console_script_names_itself(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = python.with_name("curriculum-ray")
    script.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(script), "search"])
    assert shlex.split(tune_command("best")) == [str(script), "best"]
    monkeypatch.setenv("PATH", str(script.parent))
    assert tune_command("best") == "curriculum-ray best"
