"""`status` reads what a driver writes every second, and knows a dead driver from a living one."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from rich.console import Console

from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file
from curriculum_ray.training.checkpoint import checkpoint_name
from tests.tuning.studies import record
from tuning.cli.status import status as command
from tuning.folder.layout import STATUS_FILE
from tuning.folder.process import this_process
from tuning.folder.status import StatusFile, find_status, read_status
from tuning.terminal.display import Display


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    return tmp_path / "runs" / "mine"


def progress():
    shown = Display(5, 1000, Console(file=io.StringIO(), _environ={}))
    shown.finished(record(8.0, trial=0, control="uniform", role="control"))
    shown.finished(record(7.0, trial=1, name="good"))
    shown.started(record(trial=2, key="search-002", name="half way", total_images=1000))
    shown.update(2, 400, 1, 4, 0.25)
    shown.failed(record(None, trial=3, reason="out of memory"))
    return shown


def forget_driver(folder):
    """Make the status that of a driver whose process is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    values = json.loads((folder / STATUS_FILE).read_text())
    (folder / STATUS_FILE).write_text(json.dumps({**values, "pid": child.pid, "started": "1"}))


def show(folder, *options):
    done = CliRunner().invoke(
        command, ["--output", str(folder.parent), *options], standalone_mode=False, catch_exceptions=False
    )
    return done.output


def test_a_running_study_is_shown_from_outside(folder):
    written = StatusFile(folder, "mine", progress().snapshot)
    try:
        text = show(folder)
    finally:
        written.close("finished")
    assert f"mine: running (process {os.getpid()}" in text
    assert "2 of 5 trials done, 1 running, 1 failed, time left unknown yet" in text
    assert "FID 7.00  good" in text
    assert "stage 2/4    400/1k images  loss 0.250  half way" in text
    assert "mine: finished" in show(folder)


def test_json_holds_the_same(folder):
    StatusFile(folder, "mine", progress().snapshot).close("running")
    found = json.loads(show(folder, "--json"))
    assert (found["state"], found["total"], found["best"]["value"]) == ("running", 5, 7.0)
    assert found["running"][0]["images"] == 400


def test_the_file_is_replaced_as_the_study_goes_on(folder, monkeypatch):
    monkeypatch.setattr("tuning.folder.status._EVERY_S", 0.01)
    shown = progress()
    written = StatusFile(folder, "mine", shown.snapshot)
    shown.finished(record(6.0, trial=2, name="better"))
    for _ in range(500):
        best = read_status(folder).progress.best
        if best.value == 6.0:
            break
        written._end.wait(0.01)
    assert best.name == "better"
    written.close("finished")
    assert [path.name for path in folder.iterdir()] == [STATUS_FILE]


def test_a_driver_that_died_without_a_word_is_said_so(folder):
    StatusFile(folder, "mine", progress().snapshot).close("running")
    forget_driver(folder)
    assert read_status(folder).state == "dead"
    assert "the same search command resumes it" in show(folder, "--watch")


@pytest.mark.parametrize("clock", [0, 60, -3600])
def test_a_driver_on_another_machine_lives_as_long_as_it_writes_whatever_its_clock(
    folder, monkeypatch, clock
):
    monkeypatch.setattr("tuning.folder.status._EVERY_S", 0.01)

    def replace_elsewhere(path, text, durable):
        there = {"host": "elsewhere", "time": time.time() - clock}
        replace_file(path, json.dumps({**json.loads(text), **there}), durable)

    monkeypatch.setattr("tuning.folder.status.replace_file", replace_elsewhere)
    written = StatusFile(folder, "mine", progress().snapshot)
    assert read_status(folder).state == "running"
    written.close("running")
    assert read_status(folder, patience_s=0.3).state == "dead"


def test_the_latest_study_is_shown_unless_one_is_named(folder):
    other = folder.parent / "other"
    other.mkdir()
    for place, age in ((folder, 100), (other, 50)):
        StatusFile(place, place.name, progress().snapshot).close("finished")
        os.utime(place / STATUS_FILE, (age, 1e9 - age))
    assert find_status(folder.parent, None) == other
    assert find_status(folder.parent, "mine") == folder
    with pytest.raises(ConfigError, match="there is no study 'x'"):
        find_status(folder.parent, "x")


def test_a_status_survives_its_file(folder):
    shown = progress().snapshot()
    StatusFile(folder, "mine", lambda: shown).close("running")
    status = read_status(folder)
    assert (status.study, status.state, status.driver, status.beat) == ("mine", "running", this_process(), 2)
    assert status.progress == shown


@pytest.mark.parametrize(
    ("slot", "own", "where"),
    [
        ((), (), "starts again"),
        ((192, 320), (), "goes on at 320 images"),
        ((192,), (384,), "goes on at 384 images"),
    ],
)
@pytest.mark.parametrize("stop", ["killed", "failed", "dead"])
def test_a_trial_that_ran_when_its_study_stopped_is_interrupted_and_says_where_it_goes_on(
    folder, stop, slot, own, where
):
    for place, images in (("slots/slot-1", slot), ("trials/search-002", own)):
        for seen in images:
            (folder / place / checkpoint_name("search-002", seen)).mkdir(parents=True)
    shown = progress()
    if stop != "dead":
        shown.stopped()
    StatusFile(folder, "mine", shown.snapshot).close("running" if stop == "dead" else stop)
    if stop == "dead":
        forget_driver(folder)
    first, counts, *_, last = show(folder).splitlines()
    assert first.endswith("the same search command resumes it")
    assert first.startswith(
        {"killed": "mine: interrupted", "failed": "mine: failed", "dead": "mine: its"}[stop]
    )
    assert counts == "2 of 5 trials done, 1 interrupted, 1 failed"
    assert last == f"trial 2      stage 2/4    400/1k images  interrupted, {where}  half way"
    found = json.loads(show(folder, "--json"))
    assert found["running"] == []
    assert [(trial["trial"], trial["resumes_at"]) for trial in found["interrupted"]] == [
        (2, max([0, *slot, *own]))
    ]


def test_the_status_of_a_first_release_that_was_stopped_has_no_running_trials(folder):
    StatusFile(folder, "mine", progress().snapshot).close("killed")
    values = json.loads((folder / STATUS_FILE).read_text())
    del values["interrupted"], values["running"][0]["key"], values["running"][0]["resumes_at"]
    (folder / STATUS_FILE).write_text(json.dumps(values))
    assert show(folder).splitlines()[-1].endswith("interrupted, goes on from its newest checkpoint  half way")


@pytest.mark.parametrize("key", ["front", "boot", "silent_s"])
def test_a_file_without_keys_that_came_later_is_read(folder, key):
    StatusFile(folder, "mine", progress().snapshot).close("finished")
    values = json.loads((folder / STATUS_FILE).read_text())
    del values[key]
    (folder / STATUS_FILE).write_text(json.dumps(values))
    assert read_status(folder).state == "finished"


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "cannot be read"), ("[1]", "status.json"), ('{"study": "mine", "state": "gone"}', "state")],
)
def test_a_corrupt_file_is_one_line(folder, text, says):
    (folder / STATUS_FILE).write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_status(folder)
    assert "\n" not in str(caught.value)
