"""Two drivers never work in one folder: the second is refused in one line, and a dead one leaves no lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from tuning.cli import main
from tuning.lock import held
from tuning.status import STATUS_FILE

HOLD = """
import sys
from pathlib import Path
from tuning.lock import held
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


@pytest.mark.parametrize(("silent", "refused"), [(2.0, True), (300.0, False)])
def test_a_study_at_work_on_another_machine_is_seen_by_its_status(
    tmp_path: Path, silent: float, refused: bool
) -> None:
    status = {"state": "running", "host": "elsewhere", "pid": 7, "time": time.time() - silent}
    (tmp_path / STATUS_FILE).write_text(json.dumps(status))
    if refused:
        with pytest.raises(ConfigError, match="process 7 on elsewhere"), held(tmp_path):
            pass
    else:
        with held(tmp_path):
            pass


def test_what_the_holder_starts_does_not_hold_on(tmp_path: Path) -> None:
    with held(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with held(tmp_path):
        pass
    child.communicate(b"\n")
