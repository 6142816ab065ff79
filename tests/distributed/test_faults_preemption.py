"""A node that is announced to go: a checkpoint within the grace time, and the run goes on elsewhere from there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from curriculum_ray.training import checkpoint as checkpoints
from tests.distributed.nodes import LOGGED, SETTINGS, cluster, log, result, state, train

IMAGES = SETTINGS["images"]
GRACE = 30


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_warning_leads_to_a_checkpoint_from_which_the_run_goes_on_on_another_node(
    tmp_path: Path, short: Path, uninterrupted: object, capsys: pytest.CaptureFixture[str]
) -> None:
    # No checkpoint is due before the end, so that only the warning can have led to one.
    changes = {"checkpoint": {"every_images": IMAGES}}
    run = tmp_path / "runs" / "run"
    with cluster(short, "one", "two", "spare") as there, there.drainer() as drain:
        environment = {**there.environment, "RAY_ADDRESS": there.address}
        environment["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "0.5"
        command = train(tmp_path, environment, "2", **changes)
        deadline = time.monotonic() + 240
        while len(log(run)) < 5:
            assert command.process.poll() is None, command.lines[-9:]
            assert time.monotonic() < deadline, command.lines
            time.sleep(0.01)
        going = there.where("RayTrainWorker")[0]
        drain(going, GRACE)
        told = time.monotonic()
        while not (kept := checkpoints.find_checkpoints(run, "run")):
            assert time.monotonic() < told + GRACE, "no checkpoint in the grace time"
            time.sleep(0.01)
        warned = time.monotonic() - told
        saved = int(kept[0].name.rpartition("-")[2])
        # It is taken away before its time, with something trained since that will be lost.
        while (seen := log(run)[-1]["images"]) < saved + 2 * LOGGED:
            assert command.process.poll() is None, command.lines[-9:]
            time.sleep(0.01)
        there.kill(going)
        since = time.monotonic()
        command.until("workers lost")
        seconds = command.until("images/s") - since
        assert command.end() == 0, command.lines
    assert result(run)["resumed_at"] == saved
    assert state(run) == uninterrupted
    assert saved < IMAGES
    with capsys.disabled():
        print(
            f"\n  node announced to go: survived, checkpoint {warned:.1f} s after the warning, "
            f"images lost {seen - saved}, {seconds:.1f} s"
        )
