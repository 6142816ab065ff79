"""Names and reasons are text to the console, and printed commands can be pasted."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from curriculum_ray.shell import tune_command
from tests.tuning.studies import record
from tuning.cli.summary import show
from tuning.search.launch import Outcome
from tuning.study.config import StudyConfig
from tuning.terminal.text import make_console

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.mark.parametrize("text", ["[final]", "[/final]", "[bold red]x", ":cat:", "a [link=x]b[/link]"])
def test_a_console_prints_names_as_they_are(text: str) -> None:
    file = io.StringIO()
    make_console(file=file, width=80).print(text)
    assert file.getvalue() == f"{text}\n"


def test_no_other_console_is_made() -> None:
    for path in [*(ROOT / "tuning").rglob("*.py"), *(ROOT / "clusters").rglob("*.py")]:
        if path != ROOT / "tuning" / "terminal" / "text.py":
            assert not re.search(r"(?<!make_)\bConsole\(|rich\.print|from_markup", path.read_text()), path


def _shown(folder: Path, records: list[dict[str, object]]) -> str:
    file = io.StringIO()
    outcome = Outcome(
        name="s",
        folder=folder / "s",
        records=records,
        experiment="digits/ddpm",
        report=folder / "s" / "report.html",
        ui_command="mlflow ui",
        problems=["[final] was not stored"],
    )
    show(StudyConfig(), outcome, Console(file=file, width=200), ["--output", str(folder)])
    return file.getvalue()


def test_a_study_without_a_result_advises_no_best(tmp_path: Path) -> None:
    reason = "diverged in [step 3]"
    text = _shown(tmp_path / "my [final] runs", [record(None, reason=reason)])
    assert f"no trial finished: {reason}" in text
    assert "tune best" not in text
    assert "MLflow: [final] was not stored" in text
    assert "my [final] runs" in text


def test_the_next_commands_quote_the_output(tmp_path: Path) -> None:
    folder = tmp_path / "my [final] runs"
    text = _shown(folder, [record()])
    assert tune_command("best", "--study", "s", "--output", folder) in text
