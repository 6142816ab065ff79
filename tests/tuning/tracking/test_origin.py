"""The command of a run as its tag shows it: typed as a person would, without secrets."""

from __future__ import annotations

import pytest

from tuning.tracking.origin import command_line


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/a/tune.py", "train", "--name", "two words"], "python -m tune train --name 'two words'"),
        (["/bin/curriculum-ray", "search", "--set", "a=b=c"], "curriculum-ray search --set a=b=c"),
        (["own.py"], "own.py"),
        (["tune.py", "--mlflow-uri=http://me:pa ss@host/x"], "python -m tune --mlflow-uri=http://host/x"),
        (
            ["tune.py", "--set", "run.storage=mysql://me:p=w@db/o"],
            "python -m tune --set run.storage=mysql://db/o",
        ),
        ([], ""),
    ],
)
def test_a_command_is_shown_without_secrets(arguments: list[str], shown: str) -> None:
    assert command_line(arguments) == shown
