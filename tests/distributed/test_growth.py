"""Runs on clusters that an autoscaler grows from a head that trains nothing, as the shipped launchers do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.autoscaling import autoscaling, launcher
from tests.distributed.nodes import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What is left of a driver's requests when it has gone, as its cluster sees it.
_LEFT = """
import json, ray
from ray.util.placement_group import placement_group_table
ray.init(log_to_driver=False, logging_level=50)
groups = [group["state"] for group in placement_group_table().values()]
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
        command = train(tmp_path, environment, "2", images=16 * 60, schedule={"version": 1})
        assert command.end() == 0, command.lines
        waited = [line for line in command.lines if "waiting for the cluster to grow" in line]
        assert waited[0].endswith("to 2 workers of 1 CPU (it can hold 64)"), waited
        left = _left(environment)
        assert set(left["groups"]) == {"REMOVED"}
        assert left["nodes"] == 2, "the head, and one node of 8 CPUs"
        many = train(tmp_path, environment, "65", name="many", batch_size=65, schedule={"version": 1})
        assert many.end() == 2
        assert "65 CPUs are needed (65 workers x 1), but the cluster grows to 64 at most" in many.lines[-1]
