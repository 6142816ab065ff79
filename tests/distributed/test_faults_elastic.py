"""A run of one or two workers shrinks when a node is lost and grows when one joins, with the same global draws."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from curriculum_ray.data import load_data
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.distributed.nodes import SETTINGS, Cluster, Command, cluster, log, result, state

EVERY = SETTINGS["checkpoint"]["every_images"]
IMAGES = 16 * 2400
# By images: losses of two workers differ in rounding from those of one, and so may the end of a plateau.
PACED = {
    **SETTINGS,
    "images": IMAGES,
    "schedule": {**SETTINGS["schedule"], "pacing": {"rule": "fixed", "finish_by": 0.6}},
}


# `tune train` looks for room every 60 s; here every 5 s, so that the test is short.
_FIT = """
import json, sys
from pathlib import Path
from curriculum_ray.distributed.connection import connected
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.fit import fit
resources = ResourceSpec(num_workers=(1, 2), resize_seconds=5)
with connected(1, resources):
    config = RunConfig.model_validate(json.loads(sys.argv[1]))
    fit(config, Path(sys.argv[2]), resources, lambda event: print(event, flush=True))
"""


def _reach(command: Command, there: Cluster, run: Path, workers: int, seconds: float = 150.0) -> None:
    """Wait until so many workers train, and the run has written a checkpoint since they do."""
    deadline = time.monotonic() + seconds
    began: int | None = None
    while True:
        assert command.process.poll() is None, command.lines[-9:]
        assert time.monotonic() < deadline, command.lines[-10:]
        lines = log(run)
        if lines and len(there.where("RayTrainWorker")) == workers:
            began = lines[-1]["images"] if began is None else began
            if lines[-1]["images"] > began + 2 * EVERY:
                return
        else:
            began = None
        time.sleep(0.05)


def _unsaved(run: Path) -> int:
    """Images logged since the newest checkpoint."""
    newest = checkpoints.find_checkpoints(run, "run")[0]
    return max(0, log(run)[-1]["images"] - int(newest.name.rpartition("-")[2]))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_shrinks_and_grows_with_the_cluster_and_draws_what_one_worker_draws(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "run"
    with cluster(short, "one", "two") as there:
        settings = json.dumps(PACED)
        environment = {**there.environment, "RAY_ADDRESS": there.address}
        command = Command(["-c", _FIT, settings, str(run)], tmp_path, environment)
        _reach(command, there, run, 2)
        before, shrinking = log(run)[-1]["images"], _unsaved(run)
        # The harder loss of the two: with a worker, the controller of the run.
        there.kill(there.where("TrainController")[0])
        since = time.monotonic()
        command.until("Started(attempt=2, resized=False)")
        shrunk = command.until("Progress(") - since
        assert len(there.where("RayTrainWorker")) == 1
        _reach(command, there, run, 1)
        there.start("late", cpus=1)
        since = time.monotonic()
        command.until("Started(attempt=3, resized=True)")
        growing = _unsaved(run)
        grown = command.until("Progress(") - since
        assert len(there.where("RayTrainWorker")) == 2
        assert command.end() == 0, command.lines
    assert result(run)["resumed_at"] > before - EVERY
    assert max(shrinking, growing) <= EVERY
    config = RunConfig.model_validate(PACED)
    single = Trainer(config.train, load_data(config.data))
    train(single)
    ours = state(run)
    assert ours["stage_starts"] == single.stage_starts
    assert ours["counts"] == single.histogram.as_json()["counts"]
    with capsys.disabled():
        print(
            f"\n  elastic 1 to 2 workers: {shrunk:.1f} s to one, images lost {shrinking}; {grown:.1f} s to two once "
            f"there was room, images lost {growing}"
        )
