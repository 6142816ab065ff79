"""`status` reads a study in a bucket, and knows a dead driver from a living one on another machine."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError
from curriculum_ray.training.checkpoint import MANIFEST, checkpoint_name
from tests.buckets.places import bucket_in_memory, failing
from tuning.cli.status import status as command
from tuning.folder.layout import STATUS_FILE
from tuning.folder.process import this_process
from tuning.folder.status import EndedTrials, RunningTrial, StudyProgress, StudyStatus, read_status
from tuning.folder.stored_status import find_stored_status, read_stored_status


def _write(study: Bucket, **changes: Any) -> None:
    progress = StudyProgress(metric="fid", total=5, ended=EndedTrials(), images=0, total_images=0)
    whole = {
        "study": "mine",
        "state": "running",
        "driver": this_process(),
        "beat": 1,
        "since": 1.0,
        "time": 1.0,
    }
    status = StudyStatus.model_validate({**whole, "progress": progress, **changes})
    study.write(STATUS_FILE, json.dumps(status.to_json()).encode())


def test_a_study_in_a_bucket_is_shown() -> None:
    output = bucket_in_memory()
    _write(output / "old")
    _write(output / "mine", time=2.0)
    done = CliRunner().invoke(
        command, ["--output", output.uri], standalone_mode=False, catch_exceptions=False
    )
    assert "mine: running (process" in done.output
    assert "0 of 5 trials done" in done.output
    with pytest.raises(ConfigError, match="there is no study 'x' in memory://"):
        find_stored_status(output, "x")


def test_a_driver_elsewhere_lives_as_long_as_it_uploads() -> None:
    study = bucket_in_memory() / "mine"
    elsewhere = this_process().model_copy(update={"host": "elsewhere"})
    _write(study, driver=elsewhere)
    assert read_stored_status(study, 0.01).state == "dead"
    timer = threading.Timer(0.05, _write, (study,), {"driver": elsewhere, "beat": 2})
    timer.start()
    assert read_stored_status(study, 5.0).state == "running"
    timer.join()


def test_an_interrupted_trial_goes_on_from_its_newest_whole_checkpoint_in_the_bucket() -> None:
    study = bucket_in_memory() / "mine"
    trial = RunningTrial(trial=3, key="search-003", name="half way", total=1000, images=900)
    progress = StudyProgress(
        metric="fid", total=5, ended=EndedTrials(), images=0, total_images=0, running=(trial,)
    )
    _write(study, state="killed", progress=progress)
    for slot, images, file in (("slot-0", 320, MANIFEST), ("slot-1", 640, MANIFEST), ("slot-0", 960, "ema")):
        name = checkpoint_name("search-003", images)
        (study / "slots" / slot / name).write(file, b"{}")
    (found,) = read_stored_status(study).progress.interrupted
    assert (found.trial, found.resumes_at) == (3, 640)


def test_a_bucket_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    study = bucket_in_memory() / "mine"
    _write(study)
    failing(monkeypatch, lambda kind, path: kind == "read")
    with pytest.raises(ConfigError, match=r"--output memory://\S+ cannot be used: ") as error:
        read_stored_status(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "rule"), [("[" * 200_000, "nested more than 64 deep"), ("{", "in line 1, column 2")]
)
def test_a_damaged_status_is_refused_in_one_line(tmp_path: Path, content: str, rule: str) -> None:
    (tmp_path / STATUS_FILE).write_text(content)
    with pytest.raises(ConfigError, match=rule) as caught:
        read_status(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_status_that_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / STATUS_FILE)
    with pytest.raises(ConfigError, match=r"status\.json cannot be read: it is not a regular file"):
        read_status(tmp_path)
