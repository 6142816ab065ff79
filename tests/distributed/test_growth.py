"""Runs and studies on clusters that grow from a head that trains nothing, as those of the shipped launchers do."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.distributed.autoscaling import autoscaling, launcher
from tests.distributed.nodes import ROOT, Command, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

PLAIN = {"version": 1}
# The first study lasts until the second one has started, also on a fast machine.
IMAGES = {"first": 64_000, "second": 3200}
# What is left of a driver's requests some time after it has gone, as its cluster sees it: Ray tidies up on its own.
_LEFT = """
import json, ray, time
from ray.util.placement_group import placement_group_table
ray.init(log_to_driver=False, logging_level=50)
until = time.monotonic() + 60
while set(groups := [group["state"] for group in placement_group_table().values()]) != {"REMOVED"}:
    if time.monotonic() > until:
        break
    time.sleep(0.5)
print(json.dumps({"groups": groups, "nodes": sum(node["Alive"] for node in ray.nodes())}))
"""


def _left(environment: dict[str, str]) -> Any:
    told = subprocess.run(
        [sys.executable, "-c", _LEFT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["aws", "raycluster"])
def test_a_run_waits_for_the_node_that_it_asks_for_and_withdraws_the_request(
    tmp_path: Path, short: Path, name: str
) -> None:
    with autoscaling(short, launcher(name)) as environment:
        command = train(tmp_path, environment, "2", images=16 * 60, schedule=PLAIN)
        assert command.end() == 0, command.lines
        waited = [line for line in command.lines if "waiting for the cluster to grow" in line]
        assert waited[0].endswith("to 2 workers of 1 CPU (it can hold 64)"), waited
        left = _left(environment)
        assert set(left["groups"]) == {"REMOVED"}
        assert left["nodes"] == 2, "the head, and one node of 8 CPUs"
        many = train(tmp_path, environment, "65", name="many", batch_size=65, schedule=PLAIN)
        assert many.end() == 2
        assert "65 CPUs are needed (65 workers x 1), but the cluster grows to 64 at most" in many.lines[-1]


def _search(folder: Path, environment: dict[str, str], name: str) -> Command:
    space = str(ROOT / "tests" / "tuning" / "small_space.yaml")
    arguments = ["--space", space, "--name", name, "--trials", "2", "--num-samples", "64"]
    arguments += ["--images", str(IMAGES[name])]
    arguments += ["--confirm-seeds", "2", "--set", "run.log_every_images=320"]
    arguments += ["--set", "run.checkpoint.every_images=320", "--set", "run.model.base_channels=8"]
    folder.mkdir(exist_ok=True)
    return Command(["-m", "tune", "search", *arguments], folder, environment)


def _running(study: Path) -> int:
    return len(list(study.glob("trials/*/metrics.jsonl")))


def _processes(title: str, folder: Path) -> Iterator[psutil.Process]:
    """Those of this kind, of the cluster whose files are in `folder`."""
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess):  # it, or its parent, ended meanwhile
            parent = process.parent()
            titles = (process.info["cmdline"] or [], [] if parent is None else parent.cmdline())
            if all(part in " ".join(line) for part, line in zip((title, str(folder)), titles, strict=True)):
                yield process


def _kill(title: str, folder: Path) -> None:
    """Kill one of the `_processes`; between two trials there is none."""
    deadline = time.monotonic() + 60
    while (process := next(_processes(title, folder), None)) is None:
        assert time.monotonic() < deadline, f"there is no {title}"
        time.sleep(0.2)
    process.kill()


def test_two_studies_share_a_cluster_that_grows_and_outlive_what_serves_their_trials(
    tmp_path: Path, short: Path
) -> None:
    settings = launcher("gcp")
    settings["available_node_types"]["gpu"]["resources"] = {"CPU": 1}
    with autoscaling(short, settings, gpu=2) as environment:
        first = _search(tmp_path, environment, "first")
        first.until("waiting for the cluster to grow to 1 worker of 1 CPU (it can hold 2)")
        first.until("starting 2 workers")
        deadline = time.monotonic() + 300
        while _running(tmp_path / "runs" / "first") < 2:
            assert first.process.poll() is None, first.lines
            assert time.monotonic() < deadline, first.lines
            time.sleep(0.5)
        second = _search(tmp_path, environment, "second")
        second.until("waiting for 1 of 1 CPU, which others use")
        _kill("ray::TrainController", short)
        _kill("ray::ResourceTrainable", short)
        for name, command in (("first", first), ("second", second)):
            assert command.end(600) == 0, command.lines
            records = [
                json.loads(path.read_text())
                for path in (tmp_path / "runs" / name).glob("trials/*/record.json")
            ]
            assert {record["status"] for record in records} == {"finished"}, command.lines
            assert {record["images"] for record in records} == {IMAGES[name]}
            assert {tuple(record["devices"]) for record in records} == {("CPU",)}
        assert set(_left(environment)["groups"]) == {"REMOVED"}
