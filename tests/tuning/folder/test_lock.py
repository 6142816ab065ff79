"""Two drivers never work in one folder: the second is refused in one line, and a dead one leaves no lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file
from tuning.cli import main
from tuning.folder.layout import LEASE_FILE, STATUS_FILE
from tuning.folder.lease import Holder, Lease, Taken
from tuning.folder.lock import InUse, held
from tuning.folder.process import is_alive, this_process

HOLD = """
import sys
from pathlib import Path
from tuning.folder.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts another process that holds a folder."""
    started = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_second_driver_is_refused_in_one_line_before_ray_starts(
    tmp_path: Path,
    command: str,
    holder: Callable[[Path], subprocess.Popen[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = holder(tmp_path / "runs" / "mine")
    with pytest.raises(SystemExit) as ended:
        main([command, "--output", str(tmp_path / "runs"), "--name", "mine"])
    assert ended.value.code == 2
    says = capsys.readouterr().err.strip()
    assert f"is in use by process {process.pid} on {socket.gethostname()}" in says
    assert "\n" not in says
    assert not (tmp_path / "runs" / "mine" / "study.json").exists()


def test_a_driver_that_was_killed_leaves_no_lock(
    tmp_path: Path, holder: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = holder(tmp_path)
    with pytest.raises(ConfigError, match="in use"), held(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_what_a_killed_driver_left_half_written_is_removed(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "a"
    trial.mkdir(parents=True)
    kept = [trial / "record.json", trial / ".hidden", tmp_path / f".report.html.{os.getpid()}.tmp"]
    half = [trial / ".record.json.3.tmp", tmp_path / ".report.html.12.tmp"]
    for path in [*kept, *half]:
        path.touch()
    with held(tmp_path):
        assert all(path.exists() for path in kept)
        assert not any(path.exists() for path in half)


@contextmanager
def _counting(path: Path, clock: float, counts: bool) -> Iterator[None]:
    """A driver on another machine, `clock` seconds behind, whose file is written anew as long as it `counts`."""
    ended = threading.Event()

    def write(beat: int) -> None:
        process = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 7, "started": "1", "id": "theirs"}
        status = {"state": "running", "time": time.time() - clock, "beat": beat, **process}
        replace_file(path, json.dumps(status), durable=False)

    def run() -> None:
        beat = 1
        while not ended.wait(0.02):
            write(beat := beat + 1)

    write(1)
    thread = threading.Thread(target=run)
    if counts:
        thread.start()
    yield
    ended.set()
    if counts:
        thread.join()


@pytest.mark.parametrize("file", [STATUS_FILE, LEASE_FILE])
@pytest.mark.parametrize("clock", [0.0, 60.0, 86_400.0, -60.0])
def test_a_driver_at_work_on_another_machine_is_seen_whatever_its_clock_says(
    tmp_path: Path, file: str, clock: float
) -> None:
    with (
        _counting(tmp_path / file, clock, counts=True),
        pytest.raises(InUse, match="process 7 on elsewhere"),
        held(tmp_path),
    ):
        pass


@pytest.mark.parametrize("file", [STATUS_FILE, LEASE_FILE])
@pytest.mark.parametrize("clock", [0.0, 60.0])
def test_a_driver_on_another_machine_that_died_holds_nothing(tmp_path: Path, file: str, clock: float) -> None:
    with _counting(tmp_path / file, clock, counts=False), held(tmp_path, patience_s=0.3):
        own = json.loads((tmp_path / LEASE_FILE).read_text())
        assert own["pid"] == os.getpid()
    assert not (tmp_path / LEASE_FILE).exists()


def test_nothing_is_waited_for_where_there_is_no_patience(tmp_path: Path) -> None:
    with _counting(tmp_path / LEASE_FILE, 0.0, counts=False):
        with pytest.raises(InUse), held(tmp_path, patience_s=0):
            pass
        assert json.loads((tmp_path / LEASE_FILE).read_text())["id"] == "theirs"


def test_without_locks_a_second_driver_is_refused_by_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = holder(tmp_path)

    def cannot(*_: object) -> None:
        raise OSError("this file system cannot lock")

    monkeypatch.setattr("tuning.folder.lock.fcntl.flock", cannot)
    with pytest.raises(InUse, match=f"process {process.pid} on"), held(tmp_path):
        pass
    process.kill()
    process.wait()
    with held(tmp_path):
        pass


def test_a_number_that_another_process_was_given_since_is_not_the_driver(tmp_path: Path) -> None:
    gone = this_process().model_copy(update={"started": "1"})
    (tmp_path / LEASE_FILE).write_text(gone.model_dump_json())
    assert is_alive(gone) is False
    with held(tmp_path):
        pass


def test_of_two_who_find_a_dead_lease_one_gets_it(tmp_path: Path) -> None:
    path, taken = tmp_path / LEASE_FILE, list[Lease]()
    start = threading.Barrier(4)

    def take() -> None:
        start.wait()
        with suppress(Taken):
            taken.append(Lease.take(path, 0.0))

    for _ in range(20):
        gone = Holder(**this_process().model_dump(exclude={"started"}), started="1", id="gone")
        path.write_text(gone.model_dump_json())
        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken.pop().release()
        assert list(tmp_path.iterdir()) == []


def test_a_holder_whose_lease_was_taken_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.folder.lease._EVERY_S", 0.01)
    stopped = threading.Event()
    monkeypatch.setattr("tuning.folder.lease._thread.interrupt_main", stopped.set)
    lease = Lease.take(tmp_path / LEASE_FILE, 0.0)
    replace_file(tmp_path / LEASE_FILE, json.dumps({"id": "another"}))
    assert stopped.wait(30)
    lease.release()
    assert json.loads((tmp_path / LEASE_FILE).read_text()) == {"id": "another"}


def test_what_the_holder_starts_does_not_hold_on(tmp_path: Path) -> None:
    with held(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with held(tmp_path):
        pass
    child.communicate(b"\n")


def test_what_is_done_at_the_end_comes_after_the_lease_and_within_the_lock(tmp_path: Path) -> None:
    seen: list[bool] = []

    def at_end() -> None:
        seen.append((tmp_path / "run" / LEASE_FILE).exists())
        with pytest.raises(InUse), held(tmp_path / "run"):
            pass

    with held(tmp_path / "run", at_end=at_end):
        assert (tmp_path / "run" / LEASE_FILE).exists()
    with pytest.raises(ZeroDivisionError), held(tmp_path / "run", at_end=at_end):
        _ = 1 / 0
    assert seen == [False]
