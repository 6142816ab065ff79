"""The head is lost with all that ran there: the command ends, and goes on as the same command on a new head."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from curriculum_ray.runs.config import RunConfig
from tests.distributed.nodes import SETTINGS, cluster, log, result, state, train, undisturbed

EVERY = SETTINGS["checkpoint"]["every_images"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_same_command_goes_on_after_the_head_was_lost_and_started_again(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = 16 * 3000
    run = tmp_path / "runs" / "run"
    with cluster(short, "one") as there:
        environment = {**there.environment, "RAY_ADDRESS": there.address}
        command = train(tmp_path, environment, "1", images=images)
        deadline = time.monotonic() + 240
        while not (lines := log(run)) or lines[-1]["images"] < 2 * EVERY:
            assert command.process.poll() is None, command.lines[-9:]
            assert time.monotonic() < deadline, command.lines
            time.sleep(0.01)
        there.kill("head")
        since = time.monotonic()
        assert command.end() not in (0, 2), command.lines
        ended, seen = time.monotonic() - since, log(run)[-1]["images"]
        # The node of the lost cluster is left to itself.
        there.start("head", cpus=0)
        there.wait(1)
        there.start("two", cpus=1)
        there.wait(2)
        began = time.monotonic()
        again = train(tmp_path, environment, "1", images=images)
        seconds = again.until("images/s") - began
        assert again.end() == 0, again.lines
    found = result(run)
    assert 0 < found["resumed_at"] < images
    lost = max(0, seen - found["resumed_at"])
    assert lost <= EVERY
    config = RunConfig.model_validate({**SETTINGS, "images": images})
    assert state(run) == undisturbed(config)
    with capsys.disabled():
        print(
            f"\n  head lost: survived, images lost {lost}, the command ended after {ended:.1f} s, "
            f"the same command trained again after {seconds:.1f} s"
        )
