"""A node that is lost or hangs in the middle of a run of two workers: it goes on to the same end, to the bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.distributed.nodes import LOGGED, SETTINGS, Cluster, Command, cluster, log, result, state, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

EVERY = SETTINGS["checkpoint"]["every_images"]


def _start(there: Cluster, folder: Path) -> Command:
    """A run of two workers that has written checkpoints, and has trained on since the last one."""
    command = train(folder, {**there.environment, "RAY_ADDRESS": there.address}, "2")
    run = folder / "runs" / "run"
    deadline = time.monotonic() + 240
    while not (lines := log(run)) or lines[-1]["images"] < 2 * EVERY + 2 * LOGGED:
        assert command.process.poll() is None, command.lines[-9:]
        assert time.monotonic() < deadline, command.lines
        time.sleep(0.01)
    return command


def _recovered(command: Command, since: float) -> float:
    """Seconds from `since` until a restarted run has logged a line."""
    command.until("workers lost", 200)
    return command.until("images/s") - since


def _check(
    folder: Path,
    seen: int,
    seconds: float,
    uninterrupted: object,
    what: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = folder / "runs" / "run"
    assert state(run) == uninterrupted
    resumed = result(run)["resumed_at"]
    assert resumed > 0
    # Lines are written after the step that they tell of: up to an interval more was seen than is logged.
    lost = max(0, seen - resumed)
    assert lost <= EVERY
    with capsys.disabled():
        print(f"\n  {what}: survived, images lost {lost}, {seconds:.1f} s")


def test_a_lost_node_is_replaced_by_a_free_one(
    tmp_path: Path, short: Path, uninterrupted: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster(short, "one", "two", "spare") as there:
        command = _start(there, tmp_path)
        there.kill(there.where("RayTrainWorker")[0])
        since, seen = time.monotonic(), log(tmp_path / "runs" / "run")[-1]["images"]
        seconds = _recovered(command, since)
        assert command.end() == 0, command.lines
    _check(tmp_path, seen, seconds, uninterrupted, "node lost, another free", capsys)


def test_a_lost_node_is_waited_for_until_one_joins(
    tmp_path: Path, short: Path, uninterrupted: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster(short, "one", "two") as there:
        command = _start(there, tmp_path)
        there.kill(there.where("RayTrainWorker")[0])
        seen = log(tmp_path / "runs" / "run")[-1]["images"]
        # Longer than a worker group is waited for, so that starting one has failed at least once.
        time.sleep(15)
        assert command.process.poll() is None, command.lines[-9:]
        assert log(tmp_path / "runs" / "run")[-1]["images"] <= seen + EVERY, "nothing can run on one node"
        since = time.monotonic()
        there.start("late", cpus=1)
        seconds = _recovered(command, since)
        assert command.end() == 0, command.lines
    _check(tmp_path, seen, seconds, uninterrupted, "node lost, none free until one joins (after it)", capsys)


def test_a_node_that_hangs_is_replaced(
    tmp_path: Path, short: Path, uninterrupted: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster(short, "one", "two", "spare") as there:
        command = _start(there, tmp_path)
        hung = there.where("RayTrainWorker")[0]
        there.send(hung, signal.SIGSTOP)
        since, seen = time.monotonic(), log(tmp_path / "runs" / "run")[-1]["images"]
        seconds = _recovered(command, since)
        # What was only stopped wakes up while the run goes on elsewhere, and must not disturb it.
        there.send(hung, signal.SIGCONT)
        assert command.end() == 0, command.lines
    _check(tmp_path, seen, seconds, uninterrupted, "node hangs", capsys)
