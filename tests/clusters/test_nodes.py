"""Waiting for nodes ends in time, and a command on local nodes gets the signals that are meant for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clusters.nodes import wait_for_nodes
from curriculum_ray.config import ConfigError

ROOT = Path(__file__).parents[2]
# Runs its arguments on nodes that are none: what is tested is the command's.
ON_NO_NODES = """
    import ray.cluster_utils, sys
    from clusters.nodes import run_on_local_nodes
    from curriculum_ray.config import ConfigError
    class Cluster:
        address = "127.0.0.1:1"
        def __init__(self, **settings): pass
        def shutdown(self): print("nodes ended", flush=True)
    ray.cluster_utils.Cluster = Cluster
    try:
        sys.exit(run_on_local_nodes(1, 1, sys.argv[1:]))
    except ConfigError as error:
        print(error)
        sys.exit(2)
"""
COMMAND = """
    import signal, sys, time
    def interrupted(number, frame):
        raise KeyboardInterrupt(number)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    try:
        print("started", flush=True)
        time.sleep(20)
        sys.exit("no signal came")
    except KeyboardInterrupt as error:
        print(signal.Signals(error.args[0]).name, flush=True)
        time.sleep(1)
        print("checkpoint", flush=True)
        sys.exit(128 + error.args[0])
"""


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ON_NO_NODES), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("whole_group", [False, True], ids=["to-the-process", "as-a-terminal-does"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command_once_and_its_end_is_awaited(
    number: signal.Signals, whole_group: bool
) -> None:
    with _start(sys.executable, "-c", textwrap.dedent(COMMAND)) as local:
        assert local.stdout is not None
        assert local.stdout.readline() == "started\n"
        (os.killpg if whole_group else os.kill)(local.pid, number)
        assert local.stdout.read() == f"{number.name}\ncheckpoint\nnodes ended\n"
        assert local.wait(60) == 128 + number


@pytest.mark.parametrize(
    ("command", "said", "code"),
    [
        (["/etc/passwd"], "the command to run cannot be started: '/etc/passwd': Permission denied\n", 2),
        (["no-such-command"], "the command to run does not exist: 'no-such-command'\n", 2),
        (["sh", "-c", "kill -9 $$"], "", 137),
        (["sh", "-c", "exit 3"], "", 3),
    ],
)
def test_how_the_command_ended_is_said(command: list[str], said: str, code: int) -> None:
    with _start(*command) as local:
        assert local.stdout is not None
        assert local.stdout.read() == f"nodes ended\n{said}"
        assert local.wait(60) == code


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_waiting_where_something_else_listens_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("RAY_ADDRESS", form.format(other.getsockname()[1]))
        assert wait_for_nodes(1, 1.0) == 0


@pytest.mark.parametrize(
    "address", [".x:6379", "10.0.0.1:12345678901234567890", "[::1:6379", "10.0.0.1:6379/x"]
)
def test_a_host_or_port_that_cannot_be_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError) as refused:
        wait_for_nodes(1, 1.0)
    form = "RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got"
    assert str(refused.value) == f"{form} {address}"
