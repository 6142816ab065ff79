"""Results in a bucket of a real S3 server: killed in the middle, a command goes on from nothing but the bucket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

from curriculum_ray.buckets.copy import STAGE_VARIABLE, WorkingCopy
from curriculum_ray.buckets.store import Bucket, filesystem
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import MANIFEST
from tests.distributed.jobs import as_job, run_up_to
from tests.door import ROOT, start_tune
from tests.s3_server import S3Server
from tuning.cli import main

BUCKET = Bucket("s3://lab/runs")
_TINY = {
    "evaluation": "null",
    "batch_size": "16",
    "images": str(16 * 600),
    "log_every_images": str(16 * 25),
    "checkpoint.every_images": str(16 * 100),
    "checkpoint.keep": "2",
    "schedule": "{version: 1, clusters: {by: uniform, count: 3}, order: {direction: easy_to_hard}, "
    "pacing: {rule: plateau, patience: 10}}",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server with the bucket, which this process and those that it starts find."""
    server = S3Server()
    server.make_bucket("lab")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    filesystem.cache_clear()
    yield server
    server.close()
    filesystem.cache_clear()


def _train(place: Path, *options: str) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    settings = [part for key, value in _TINY.items() for part in ("--set", f"{key}={value}")]
    where = ["--output", "s3://lab/runs", "--name", "run", "--mlflow-uri", f"sqlite:///{place}/mlflow.db"]
    return start_tune(place, "train", "--data", "mixture2d", *where, *settings, *options)


def _stored() -> list[int]:
    return [int(name[-12:]) for name in stored_checkpoints.stored(BUCKET / "run")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_killed_goes_on_to_the_bit_on_a_fresh_machine(server: S3Server, tmp_path: Path) -> None:
    process = _train(tmp_path / "one")
    end = time.monotonic() + 600
    while len(_stored()) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.rmtree(tmp_path / "stage")
    newest = max(_stored())
    # Torn: without a manifest it is none.
    (BUCKET / "run" / checkpoints.checkpoint_name("run", newest + 16)).write("ema.safetensors", b"torn")
    server.fail(status=503, count=4)
    process = _train(tmp_path / "two")
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    assert "planted" not in out
    result = RunResult.model_validate_json((BUCKET / "run").read("result.json") or b"")
    assert 0 < result.resumed_at <= newest
    assert result.checkpoint == f"s3://lab/runs/run/checkpoint-run-{result.images:012d}"
    assert result.checkpoint in out
    assert len(_stored()) == 2
    assert max(_stored()) == result.images

    config = RunConfig.model_validate(yaml.safe_load((BUCKET / "run").read("config.yaml") or b""))
    theirs, _ = run_up_to(as_job(tmp_path, "folder", config).assigned(tmp_path / "folder"))
    copy = WorkingCopy(tmp_path / "copy", BUCKET)
    found = stored_checkpoints.newest(copy, [tmp_path / "copy" / "run"], "run")
    assert found is not None
    expected = checkpoints.read(theirs.checkpoint).tensors["model"]
    assert all(torch.equal(value, expected[name]) for name, value in found[1].tensors["model"].items())

    assert [path for path in (tmp_path / "stage").rglob("*") if path.is_file()] == []
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert b"planted" not in path.read_bytes(), path
    for name in BUCKET.sizes():
        assert b"planted" not in (BUCKET.read(name) or b""), name


@pytest.mark.slow
def test_a_bucket_that_cannot_be_used_is_refused_in_one_line_before_anything_starts(
    server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(address: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["train", "--output", address, "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"])
        assert ended.value.code == 2
        return capsys.readouterr().err

    said = "error: --output s3://none/runs cannot be used: there is no such bucket\n"
    assert refused("s3://none/runs") == said
    server.fail(status=403, count=100)
    assert "s3://lab/runs cannot be used: access is denied" in refused("s3://lab/runs")
    server.close()
    assert refused("s3://lab/runs") == (
        "error: --output s3://lab/runs cannot be used: its server does not answer\n"
    )
    assert not (tmp_path / "mlflow.db").exists()


_STUDY = [
    *("--name", "study", "--trials", "2", "--confirm-seeds", "2", "--images", "3200", "--num-samples", "64"),
    *("--concurrent", "1", "--space", str(ROOT / "tests" / "tuning" / "small_space.yaml"), "--json"),
]
for _setting in (
    "run.log_every_images=320",
    "run.checkpoint.every_images=640",
    "rivals={}",
    "run.batch_size=16",
):
    _STUDY += ["--set", _setting]


def _search(place: Path, *where: str) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    return start_tune(place, "search", "--data", "mixture2d", *_STUDY, *where)


def _records(study: Bucket) -> dict[str, bytes]:
    return {name: study.read(name) or b"" for name in study.sizes() if name.endswith("/record.json")}


def _found(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    assert "planted" not in out
    found: dict[str, Any] = json.loads(out[out.index("{") :])
    return found


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_study_that_is_killed_goes_on_to_the_same_answer_on_a_fresh_machine(
    server: S3Server, tmp_path: Path
) -> None:
    where = ("--output", "s3://lab/runs", "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db")
    study = BUCKET / "study"
    process = _search(tmp_path / "one", *where)
    end = time.monotonic() + 900
    # In a trial of the search, after one that has ended.
    while not (records := _records(study)) or not any(
        "search-" in name for name in (study / "slots").sizes()
    ):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.rmtree(tmp_path / "stage", ignore_errors=True)
    server.fail(status=503, count=4)
    found = _found(_search(tmp_path / "two", *where))
    after = _records(study)
    assert records == {name: after[name] for name in records}, "a trial that had ended was run again"
    assert found["report"] == "s3://lab/runs/study/report.html"
    assert b"FID" in (study.read("report.html") or b"")
    assert found["problems"] == []

    whole = _found(_search(tmp_path / "three"))
    results = [
        {trial["key"]: (trial["status"], trial["schedule"], trial["metrics"]) for trial in each["trials"]}
        for each in (found, whole)
    ]
    assert results[0] == results[1]
    assert found["answer"] == whole["answer"]
    journal = tmp_path / "journal"
    assert study.download("optuna.journal", journal)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    trials = optuna.load_study(study_name="curriculum", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    left = [name for name in (study / "slots").sizes() if name.endswith(MANIFEST)]
    assert not left, "checkpoints of trials that have ended are kept twice"
    for name in study.sizes():
        assert b"planted" not in (study.read(name) or b""), name
