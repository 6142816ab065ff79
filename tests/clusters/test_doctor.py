"""The doctor finds what is wrong, says how to fix it, and never hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusters.checks import growth_check, memory_check, room_check, versions_agree
from clusters.cli import main
from clusters.nodes import wait_for_nodes
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.capacity import Capacity, NodeKind
from curriculum_ray.distributed.growth import Growth
from curriculum_ray.distributed.resources import ResourceSpec

ROOT = Path(__file__).parents[2]
FACTS = {"python": "3.11.2", "ray": "2.60.0", "torch": "2.15.0", "cuda": None, "driver": None}


def _clusters(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusters", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
    )


def test_versions_that_differ_are_a_failed_check_with_its_mend() -> None:
    assert versions_agree({"a": FACTS, "b": FACTS}, ()).state == "ok"
    check = versions_agree({"a": FACTS, "b": {**FACTS, "torch": "2.14.0"}}, ())
    assert check.state == "failed"
    assert "2.14.0 and 2.15.0" in check.found
    assert check.remedy


def test_a_cluster_that_is_not_there_is_one_line_and_exit_code_2() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    start = time.monotonic()
    done = _clusters("doctor", RAY_ADDRESS=address)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "RAY_ADDRESS" in done.stderr
    assert time.monotonic() - start < 60


def test_waiting_for_a_head_that_is_not_there_ends_in_time() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = _clusters("wait", "--nodes", "1", "--timeout", "1", RAY_ADDRESS=address)
    assert done.returncode == 1
    assert done.stderr == "0 of 1 node up\n"


@pytest.mark.parametrize("words", [("doctor",), ("wait", "--nodes", "1")])
def test_a_wait_of_more_than_a_day_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--timeout", "1e10"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Invalid value for '--timeout': 10000000000.0 is not in the range ")
    assert error.endswith("<=86400.\n")


@pytest.mark.parametrize("address", ["foo", "ray://", "local", "http://10.0.0.1:6379/x"])
def test_what_is_no_address_of_a_cluster_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        ConfigError, match=r"^RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got "
    ):
        wait_for_nodes(1, 1.0)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_nodes_of_one_machine_are_found_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clusters", "doctor", "--json", "--output", str(tmp_path / "runs")]
    done = _clusters("local", "--nodes", "2", "--", *command)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert states == {
        **dict.fromkeys(["nodes", "token", "growth", "room", "memory", "ports", "code", "versions"], "ok"),
        **dict.fromkeys(["disk", "clocks"], "ok"),
        "gpus": "skipped",
        **dict.fromkeys(["all_reduce", "storage", "mlflow"], "ok"),
    }, done.stdout + done.stderr
    assert done.returncode == 0
    assert not list((tmp_path / "runs").glob(".shared-*"))


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_cluster_that_takes_anyone_is_found_by_a_driver_that_sends_a_token(tmp_path: Path) -> None:
    doctor = [sys.executable, "-m", "clusters", "doctor", "--json", "--output", str(tmp_path / "runs")]
    sends_token = ["env", "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={'0' * 64}", *doctor]
    done = _clusters("local", "--nodes", "1", "--", *sends_token, RAY_AUTH_MODE="disabled")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    failed = [(check["name"], check["found"]) for check in report["checks"] if check["state"] == "failed"]
    # The other checks need actors, which cannot start where driver and cluster differ in this.
    assert failed[0] == ("token", "anyone who can reach the cluster can run code on it"), done.stderr
    assert done.returncode == 1


def test_the_memory_of_the_head_is_counted_for_all_runs_that_the_cluster_can_grow_to() -> None:
    eight = Capacity(({"CPU": 0.0},), (NodeKind({"CPU": 8.0, "GPU": 1.0}, 8),), most=8)
    gib = 2**30
    one = ResourceSpec()
    assert memory_check(Growth(eight), 1, one, 8 * gib).state == "ok"
    few = memory_check(Growth(eight), 1, one, gib)
    assert few.state == "failed"
    assert "needed at 64 slots" in few.found
    alone = Growth(Capacity.of({"CPU": 64.0}))
    assert memory_check(alone, 1, one, 8 * gib).state == "failed", "the trials' actors are there too"


@pytest.mark.parametrize(
    ("workers", "address", "said"),
    [
        (4, None, "2.7 needed beside the workers at 4 slots"),
        ((1, 4), None, "2.7 needed beside the workers at 4 slots"),
        (32, None, "1.7 needed beside the workers at 1 slot"),
        (1, None, "3.5 needed beside the workers at 16 slots"),
        (1, "10.0.0.1:6379", "but 6.6 needed at 16 slots"),
    ],
)
def test_the_memory_of_a_single_machine_is_counted_for_the_runs_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, workers: int | tuple[int, int], address: str | None, said: str
) -> None:
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    sixteen = Growth(Capacity.of({"CPU": 16.0}))
    check = memory_check(sixteen, 1, ResourceSpec(num_workers=workers), 6 * 2**30)
    assert check.found == f"6.0 GiB here, {said}"
    assert check.state == ("failed" if address else "ok")


def test_the_room_is_said_for_the_fewest_and_the_most_workers_of_a_run() -> None:
    there = Capacity.of({"CPU": 2.0})
    grown = Growth(Capacity((), (NodeKind({"CPU": 8.0}, 8),), most=8))
    some, one = ResourceSpec(num_workers=(1, 4)), ResourceSpec()
    check = room_check(there, grown, some)
    assert check.found == "2 workers of 1 CPU now, 64 at most: 64 runs of 1 at a time, or 16 of 4"
    alone = Growth(there)
    assert room_check(there, alone, some).found.endswith("2 runs of 1 at a time, or 1 of 2")
    assert room_check(there, alone, one).found == "2 workers of 1 CPU now: 2 runs of 1 at a time"
    failed = room_check(there, alone, ResourceSpec(num_workers=3))
    assert (failed.state, failed.found) == ("failed", "2 workers of 1 CPU now, but a run needs 3")


@pytest.mark.parametrize(
    ("far", "said"),
    [
        (Growth(Capacity.of({"CPU": 2.0})), ("ok", "none: these nodes are all")),
        (
            Growth(Capacity((), (NodeKind({"CPU": 8.0, "GPU": 1.0}, 4),), most=2)),
            ("ok", "to 2 further nodes: 16 CPUs, 2 GPUs at most"),
        ),
        (
            Growth(None, "Kubernetes does not tell: HTTPError"),
            ("skipped", "unknown: Kubernetes does not tell: HTTPError; a study asks for its room, and waits"),
        ),
    ],
)
def test_how_far_a_cluster_grows_is_said(far: Growth, said: tuple[str, str]) -> None:
    check = growth_check(far)
    assert (check.state, check.found) == said
