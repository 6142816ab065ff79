"""Results in a bucket, as the command line takes them: what is refused, in one line, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.buckets.places import bucket_in_memory
from tuning.cli import main

_URI = "sqlite:///elsewhere.db"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "cannot hold the embedded MLflow store"),
        (["search"], "name a server, or a database file elsewhere, by --mlflow-uri"),
        (["best"], "cannot hold the embedded MLflow store"),
        (["compare", "a", "b"], "cannot hold the embedded MLflow store"),
        (["search", "--mlflow-uri", _URI, "--set", "storage=sqlite"], "storage sqlite is a file"),
        (["status"], "there is no study in memory://"),
        (["bundle"], "`bundle` needs a path of this machine, but got memory://"),
        (["plan"], "`plan` needs a path of this machine"),
        (["sample", "--checkpoint", "memory://nothing/here"], "nor a run's folder with one"),
        (
            ["train", "--mlflow-uri", _URI, "--output", "nothing://bucket"],
            "cannot be opened: Protocol not known",
        ),
    ],
)
def test_what_a_bucket_cannot_have_is_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURRICULUM_RAY_STAGE", str(tmp_path / "stage"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own = [] if {"--output", "--checkpoint"} & set(arguments) else ["--output", bucket_in_memory().uri]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *own])
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert said in words
    assert words.count("\n") == 1
