"""A search that ends while a slot finds no room to start: its own error, its own exit code, and an end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SMALL_SPACE = str(Path(__file__).parents[2] / "small_space.yaml")
# Somebody else takes all CPUs once the search has looked how many there are.
SCRIPT = """
import sys, time
import ray
from ray.util import placement_group_table
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.slots import Slots
from tuning.cli import main
from tuning.search import launch

@ray.remote
class Other:
    def is_there(self):
        return True

def search(config, space, study, concurrent, *_):
    other = Other.options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    assert ray.get(other.is_there.remote())
    with Slots(create_board(), study.slot_folders(1), config.resources):
        while not any(group["state"] == "PENDING" for group in placement_group_table().values()):
            time.sleep(0.1)
        raise ConfigError("the space is empty")

launch.search, Slots.patience_s = search, 1.0
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_search_that_fails_while_a_slot_waits_for_room_says_why_and_ends(output: Path) -> None:
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    done = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, "search", "--space", SMALL_SPACE, "--images", "3200"),
            *("--output", str(output), "--concurrent", "1"),
        ],
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stderr == "error: the space is empty\n", done.stdout
    assert done.returncode == 2
