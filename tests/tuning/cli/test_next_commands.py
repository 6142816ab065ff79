"""The commands that a command prints at its end run as they are, and mean what was just done."""

from __future__ import annotations

import html
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tests.door import ROOT, start_tune
from tests.tuning.studies import record, result, trials
from tuning.cli import cli
from tuning.cli import train as train_module
from tuning.cli.options import given, read_settings, shared
from tuning.report import StudyFacts, build_report
from tuning.report.commands import best_command, search_command, train_command
from tuning.study.config import StudyConfig
from tuning.tracking import open_store
from tuning.tracking.best import best
from tuning.tracking.finished import protocols

SMALL_SPACE = str(Path(__file__).parents[1] / "small_space.yaml")


def _parsed(line: str) -> dict[str, Any]:
    """What click makes of an advised line."""
    words = shlex.split(line)
    name, *arguments = words[words.index("tune") + 1 :]
    context = click.Context(cli, info_name="tune")
    command = cli.get_command(context, name)
    assert command is not None
    return command.make_context(name, arguments, parent=context).params


def test_a_search_advises_its_own_study_metric_store_and_resources(tmp_path: Path) -> None:
    where = ["--output", "my runs", "--mlflow-uri", "http://127.0.0.1:5000"]
    config = StudyConfig.model_validate(
        {"metric": "kid", "resources": {"num_workers": 2, "use_gpu": True}, "run": {"model": "python:a.b"}}
    )
    asked = _parsed(best_command(config, "my study", "f00d", where))
    assert (asked["study"], asked["metric"], asked["fingerprint"]) == ("my study", "kid", "f00d")
    trained = _parsed(train_command(config, where, trusted=False))
    for found in (asked, trained):
        assert (found["output"], found["mlflow_uri"]) == (Path("my runs"), "http://127.0.0.1:5000")
    assert trained["config_file"] == asked["target"].with_suffix(".run.yaml")
    assert (trained["num_workers"], trained["use_gpu"], trained["trust_code"]) == (2, True, True)


@pytest.mark.parametrize(
    "settings",
    [
        {"trials": 3, "confirm_seeds": [3, 20], "futility": 0.0, "margin": 0.05, "hours": 2.0},
        {"resources": {"num_workers": [1, 2], "use_gpu": True, "accelerator_type": "A100"}, "share": 0.5},
        {"pack": 4, "confirm_top": 0, "storage": "postgresql://me:secret@db/optuna"},
        {"run": {"model": "python:a.b"}, "arms": {"p2": {"weighting.kind": "p2"}}, "previews": 8},
    ],
)
def test_a_report_repeats_its_study_with_all_settings_but_its_storage(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = StudyConfig.model_validate(settings)
    (tmp_path / "study.json").write_text(json.dumps(config.decisive()))
    asked = _parsed(search_command(config, tmp_path / "study.json", "again"))
    words = (asked["config_file"], asked["overrides"], {}, asked["trust_code"], "run")
    assert read_settings(StudyConfig, *words) == config.model_copy(update={"storage": None})
    assert asked["output"] == Path("again")


def test_the_commands_of_a_report_are_those_of_the_terminal(tmp_path: Path) -> None:
    config = StudyConfig.model_validate(
        {"metric": "kid", "resources": {"num_workers": 2, "use_gpu": True}, "trials": 1}
    )
    facts = StudyFacts(
        name="my study", config=config, mlflow_uri="http://127.0.0.1:5000", address="s3://b/p", trusted=True
    )
    text = html.unescape(build_report([record()], facts, tmp_path).read_text())
    lines = [line for line in text.splitlines() if " -m tune " in line]
    where = ["--output", "s3://b/p", "--mlflow-uri", "http://127.0.0.1:5000"]
    assert [line.partition("<")[0] for line in lines] == [
        best_command(config, "my study", "f00dcafe", where),
        train_command(config, where, True),
    ]
    unfinished = build_report([record(None)], facts, tmp_path).read_text()
    assert " -m tune " not in unfinished


def test_nothing_is_advised_that_goes_without_saying(tmp_path: Path) -> None:
    config = StudyConfig()
    assert best_command(config, "my study", None, []).endswith("tune best --study 'my study'")
    assert train_command(config, [], trusted=False).endswith("tune train --config schedule.run.yaml")


def test_a_train_advises_its_own_folder_and_its_own_protocol() -> None:
    config = RunConfig.model_validate(
        {"evaluation": {"num_samples": 64, "sampler": "ancestral", "ema": False}}
    )
    done = RunResult(**{**result().to_json(), "checkpoint": "my runs/run"})

    @click.command()
    @shared("output")
    def command(output: Path) -> list[str]:
        return train_module._next(done, config)

    sample, evaluate = command.main(["--output", "my runs"], standalone_mode=False)
    assert _parsed(sample)["output"] == Path("my runs")
    found = _parsed(evaluate)
    assert found["checkpoint"] == Path("my runs/run")
    assert set(found["overrides"]) == {"num_samples=64", "sampler=ancestral", "ema=false"}


def test_words_that_were_not_typed_are_not_repeated_and_secrets_never() -> None:
    @click.command()
    @shared("output", "mlflow_uri", "use_gpu", "set")
    def command(**_: Any) -> list[str]:
        return given("output", "mlflow_uri", "use_gpu", "overrides")

    def ask(*words: str) -> list[str]:
        return list(command.main(list(words), standalone_mode=False))

    assert ask() == []
    words = ["--output", "runs", "--use-gpu", "--set", "a=1", "--set", "b=2"]
    assert ask(*words) == words
    assert ask("--mlflow-uri", "http://me:secret@host/x?y=1") == ["--mlflow-uri", "http://host/x"]


@pytest.mark.parametrize(
    "address", ["abfs://runs@me.dfs.core.windows.net/a", "s3://b/x?region=eu-west-1&endpoint_override=h:9"]
)
def test_an_address_is_repeated_in_full(address: str) -> None:
    @click.command()
    @shared("output_or_bucket")
    def command(**_: Any) -> list[str]:
        return given("output")

    words = ["--output", address]
    assert command.main(words, standalone_mode=False) == words
    assert _parsed(best_command(StudyConfig(), "study", None, words))["output"] == address


def test_studies_of_one_name_are_told_apart_by_their_protocols(
    write: Callable[..., None], output: Path
) -> None:
    write(*trials(7.0), study="it's a", fingerprint="aaaa1")
    store = open_store(None, output, create=False)
    assert protocols(store, "it's a") == {"aaaa1"}
    write(*trials(5.0), study="it's a", fingerprint="bbbb2")
    assert protocols(store, "it's a") == {"aaaa1", "bbbb2"}
    assert best(output, study="it's a", fingerprint="aaaa1").curriculum.mean == 7.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_study_advises_runs_beside_a_second_study(
    write: Callable[..., None], output: Path, tmp_path: Path
) -> None:
    write(*trials(7.0), study="the digits")
    settings = ["confirm_top=0", "run.model.base_channels=8"]
    words = ["search", "--data", "shapes", "--space", SMALL_SPACE, "--trials", "1", "--images", "640"]
    words += ["--num-samples", "64", "--output", output.name]
    process = start_tune(tmp_path, *words, *(word for each in settings for word in ("--set", each)))
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 0, text

    def advised(text: str, word: str) -> str:
        return next(line for line in text.splitlines() if f" -m tune {word} " in line)

    def run(line: str) -> str:
        words = shlex.split(line[line.index(sys.executable) :])
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = run(advised(text, "best"))
    assert "(shapes/ddpm-epsilon)" in found
    trained = run(advised(text, "train"))
    (folder,) = output.glob("train-shapes-*")
    assert "is finished" in run(advised(found, "train")), "both advise the same run"
    schedule = CurriculumSchedule.from_file(tmp_path / "schedule.yaml")
    assert schedule.schedule_id in folder.name
    protocol = (json.loads((folder / "result.json").read_text()))["fingerprint"]
    assert f"protocol {protocol}" in run(advised(trained, "evaluate"))
    run(advised(trained, "sample"))
    assert list(output.glob("*.png"))
