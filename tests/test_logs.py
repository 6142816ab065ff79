"""Logs: files that hold what was printed and logged, each message once; a terminal that shows no other package's."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from curriculum_ray.logs import captured, level, set_level, shown_on_stderr, written_to

OWN = logging.getLogger("curriculum_ray.runs.hooks")


@pytest.fixture(autouse=True)
def levels() -> None:
    yield  # type: ignore[misc]
    set_level(logging.NOTSET)


def test_prints_and_logs_of_a_worker_are_in_its_file_and_where_they_went_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name / "worker-0.log" for name in ("a", "b")]
    with captured(files):
        print("from a model")
        print("to stderr", file=sys.stderr)
        OWN.warning("a checkpoint was skipped")
        OWN.debug("too little to log")
        kept = sys.stdout
    print("after it")
    print("by one who kept the stream, after it", file=kept)
    for file in files:
        text = file.read_text()
        assert "from a model\nto stderr\n" in text
        assert text.count("a checkpoint was skipped") == 1
        assert "too little" not in text
        assert "after it" not in text
    printed = capsys.readouterr()
    assert printed.out == "from a model\nafter it\nby one who kept the stream, after it\n"
    assert "to stderr" in printed.err


def test_a_silent_worker_leaves_no_file(tmp_path: Path) -> None:
    with captured([tmp_path / "worker-0.log"]), written_to(tmp_path / "driver.log"):
        OWN.debug("nothing")
    assert not list(tmp_path.iterdir())


def test_an_error_ends_the_capture_and_a_second_one_adds_to_the_file(tmp_path: Path) -> None:
    def fails(word: str) -> None:
        with captured([tmp_path / "log"]):
            print(word)
            raise ZeroDivisionError

    before = sys.stdout, sys.stderr
    for word in ("first", "second"):
        with pytest.raises(ZeroDivisionError):
            fails(word)
    assert (sys.stdout, sys.stderr) == before
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with captured([tmp_path / "folder" / "worker-0.log"]):
        print("still here")


def test_another_package_is_heard_in_the_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = logging.getLogger("somebody.elses")
    theirs.handlers = [logging.StreamHandler(sys.stderr)]
    theirs.propagate = False
    with written_to(tmp_path / "driver.log", ("somebody.elses",)):
        theirs.warning("the cluster is busy")
    theirs.warning("again")
    assert capsys.readouterr().err == "again\n"
    assert "WARNING somebody.elses: the cluster is busy\n" in (tmp_path / "driver.log").read_text()


def test_the_level_says_what_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_on_stderr(lambda line: line.replace("\n", " ")):
        set_level("info")
        assert level() == logging.INFO
        OWN.info("starts\nhere")
        OWN.debug("much more")
    OWN.info("later")
    assert capsys.readouterr().err == "info: starts here\n"


def test_only_the_thread_that_trains_is_captured_where_a_display_is_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        print("from the model")
        OWN.warning("from training")

    thread = threading.Thread(target=work)
    with captured([tmp_path / "worker-0.log"], thread):
        thread.start()
        thread.join()
        print("the display")
        OWN.warning("from the driver")
    text = (tmp_path / "worker-0.log").read_text()
    assert "from the model\n" in text
    assert "from training" in text
    assert "from the driver" not in text
    assert capsys.readouterr().out == "the display\n"


def test_a_live_display_writes_through_a_capture(tmp_path: Path) -> None:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        console = Console(force_terminal=True, width=40, _environ={})
        live = Live("the bar", console=console, auto_refresh=False)
        with live, captured([tmp_path / "worker-0.log"], threading.Thread()):
            print("a note")
            live.update("the bar, again", refresh=True)
    assert "a note" in shown.getvalue()
    assert "the bar, again" in shown.getvalue()
    assert not (tmp_path / "worker-0.log").exists()
