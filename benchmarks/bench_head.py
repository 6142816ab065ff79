"""Memory that a slot costs the driver's node: the private memory (USS) of Ray's and our processes there.

A head without CPUs and a worker node are process trees of this machine, and the worker node has as many CPUs as there
are slots, whatever the machine has. The slots' workers and the trials of Ray Tune are there, and do nothing. What runs
on the worker node is not counted. USS is what would be free if a process ended: pages that it shares with others are in
no process's share, and Ray's object store is not counted.

    python benchmarks/bench_head.py              # at 1, 4 and 8 slots
    python benchmarks/bench_head.py --slots 1 16

The last line is JSON: MB of a further slot, and GiB of the driver's node at 64 slots by the straight line through the
measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_ENOUGH_S = 300.0
_SETTLE_S = 5.0
_TRIES = 3
_KINDS = (
    "RayTrainWorker",
    "ResourceTrainable",
    "TrainController",
    "SynchronizationActor",
    "PreemptionWatcher",
    "Board",
)
MB = 1e6


def idle(slots: int) -> None:
    """Start so many slots and trials, which wait until this process is killed."""
    from ray import tune

    from curriculum_ray.distributed.board import create_board
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.resources import ResourceSpec
    from curriculum_ray.distributed.slots import Slots
    from curriculum_ray.runs.config import RunConfig
    from curriculum_ray.runs.jobs import Job
    from tuning.search.ray_tune.board_trial import BoardTrial
    from tuning.search.ray_tune.trial_place import trial_resources

    class Quiet(BoardTrial):
        """A trial that has nothing to wait for."""

        def step(self) -> dict[str, Any]:
            threading.Event().wait()
            return {}

    with tempfile.TemporaryDirectory() as name, connected(slots, ResourceSpec()):
        folder = Path(name)
        board = create_board("bench")
        with Slots(board, [folder / f"slot-{place}" for place in range(slots)], ResourceSpec()):
            jobs = [
                Job.of(f"trial-{place}", RunConfig(), folder / f"trial-{place}") for place in range(slots)
            ]
            tune.Tuner(
                tune.with_resources(Quiet, trial_resources()),
                param_space={"board": "bench", "job": tune.grid_search(jobs)},
                tune_config=tune.TuneConfig(max_concurrent_trials=slots, reuse_actors=True),
                run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
            ).fit()


def _tree(pid: int) -> dict[int, psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return {each.pid: each for each in (top, *top.children(recursive=True))}
    return {}


def _processes(node: Any) -> dict[int, psutil.Process]:
    """All processes of one of Ray's nodes."""
    started = (info.process.pid for kind in node.all_processes.values() for info in kind)
    return {pid: each for top in started for pid, each in _tree(top).items()}


def _kind(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        title = " ".join(process.cmdline())
        found = next((kind for kind in _KINDS if f"ray::{kind}" in title), None)
        known = {"ray::IDLE": "idle workers", "gcs_server": "GCS", "raylet": "raylet", "--idle": "driver"}
        return found or next((name for part, name in known.items() if part in title), "Ray's others")
    return "gone"


def _sum(processes: Iterable[psutil.Process]) -> dict[str, float]:
    """MB of private memory by kind of process."""
    found: Counter[str] = Counter()
    for process in processes:
        with suppress(psutil.Error):
            found[_kind(process)] += process.memory_full_info().uss / MB
    return dict(found)


def _two_nodes(slots: int) -> tuple[Any, Any]:
    """A head without CPUs and a node of so many; on a busy machine Ray may take too long, and is tried again."""
    from ray.cluster_utils import Cluster

    for attempt in range(_TRIES):
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False)
            return cluster, cluster.add_node(num_cpus=slots)
        except Exception:  # Ray raises a bare one
            cluster.shutdown()
            if attempt == _TRIES - 1:
                raise
    raise AssertionError


def measure(slots: int) -> dict[str, float]:
    """MB of private memory on the driver's node at so many slots, by kind of process."""
    cluster, worker = _two_nodes(slots)
    driver = None
    try:
        environment = {**os.environ, "RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
        driver = subprocess.Popen(
            [sys.executable, __file__, "--idle", str(slots)], env=environment, start_new_session=True
        )
        deadline = time.monotonic() + _ENOUGH_S
        while True:
            elsewhere = _processes(worker)
            here = {**_processes(cluster.head_node), **_tree(driver.pid)}
            here = {pid: process for pid, process in here.items() if pid not in elsewhere}
            kinds = Counter(_kind(process) for process in (*here.values(), *elsewhere.values()))
            if kinds["RayTrainWorker"] == kinds["ResourceTrainable"] == slots:
                break
            assert driver.poll() is None, "the driver ended"
            assert time.monotonic() < deadline, f"not all of {slots} slots have started: {kinds}"
            time.sleep(1.0)
        time.sleep(_SETTLE_S)
        return _sum(here.values())
    finally:
        if driver is not None:
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        cluster.shutdown()


def main() -> None:
    """Print the table, the line through it, and the JSON line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--slots", type=int, nargs="+", default=[1, 4, 8], help="numbers of slots to measure"
    )
    arguments.add_argument("--idle", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.idle:
        idle(options.idle)
        return
    os.environ.pop("RAY_ADDRESS", None)
    # Others may use the machine meanwhile, to whom Ray's workers would give way.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    found = {slots: measure(slots) for slots in sorted(set(options.slots))}
    kinds = sorted({kind for each in found.values() for kind in each})
    print(f"{'MB of private memory':24}" + "".join(f"{f'{slots} slots':>12}" for slots in found))
    for kind in kinds:
        print(f"{kind:24}" + "".join(f"{each.get(kind, 0.0):12.0f}" for each in found.values()))
    totals = [sum(each.values()) for each in found.values()]
    print(f"{'all':24}" + "".join(f"{total:12.0f}" for total in totals))
    figures: dict[str, float] = {}
    if len(totals) > 1:
        line = statistics.linear_regression(list(found), totals)
        print(f"the line through them: {line.intercept:.0f} MB and {line.slope:.1f} MB a slot")
        at_64 = (line.intercept + 64 * line.slope) * MB / 2**30
        figures = {"mb_per_slot": round(line.slope, 1), "gib_64": round(at_64, 2)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
