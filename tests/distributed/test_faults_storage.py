"""Storage that is slow: what is half written is never read, and a death in the middle of it costs no more than it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import checkpoint as checkpoints
from tests.distributed.nodes import ROOT, SETTINGS, log, result, state, undisturbed

# A run whose disk takes 0.25 s for each flush, as a loaded file server may: the flush of Python's os is replaced.
_ON_A_SLOW_DISK = """
import os, sys, time
from pathlib import Path
from curriculum_ray.distributed.job import run_job
from curriculum_ray.training.world import World
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Job
flush = os.fsync
def slow(descriptor):
    time.sleep(0.25)
    flush(descriptor)
os.fsync = slow
place = Path(sys.argv[2])
config = RunConfig.model_validate_json(sys.argv[1])
job = Job.of("run", config, place / "run").assigned(place / "slot")
run_job(job, World(), lambda progress: False, lambda path, metrics: print(path, flush=True))
"""


def _run(config: RunConfig, place: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _ON_A_SLOW_DISK, config.model_dump_json(), str(place)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_run_on_slow_storage_that_is_killed_while_it_writes_goes_on_from_the_checkpoint_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = 16 * 60
    config = RunConfig.model_validate(
        {**SETTINGS, "images": every * 8, "checkpoint": {"every_images": every, "keep": 2}}
    )
    run, slot = tmp_path / "run", tmp_path / "slot"
    lost, seconds = [], []
    for _ in range(3):
        process = _run(config, tmp_path)
        before = checkpoints.find_checkpoints(slot, "run")
        deadline = time.monotonic() + 100
        # At least one more stands, and the next one is under way.
        while checkpoints.find_checkpoints(slot, "run")[:1] == before[:1] or not list(
            slot.glob(f"*.{process.pid}.tmp/*")
        ):
            assert process.poll() is None, "it had ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert list(slot.glob(f"*.{process.pid}.tmp")), "the test needs a death in the middle of writing"
        seen = log(run)[-1]["images"]
        kept = checkpoints.find_checkpoints(slot, "run")
        sound = [int(checkpoints.read(path).state["images"]) for path in kept]
        assert sound, "no checkpoint is left"
        lost.append(seen - sound[0])
        assert 0 <= lost[-1] <= every
    since = time.monotonic()
    process = _run(config, tmp_path)
    while log(run)[-1]["images"] > sound[0] or process.poll() is not None:
        assert process.poll() is None
        time.sleep(0.005)
    while log(run)[-1]["images"] <= sound[0]:
        assert process.poll() is None
        time.sleep(0.005)
    seconds.append(time.monotonic() - since)
    assert process.wait(200) == 0
    assert result(run)["resumed_at"] == sound[0]
    assert not list(tmp_path.rglob("*.tmp")), "what was half written is left behind"
    assert state(run) == undisturbed(config)
    with capsys.disabled():
        print(f"\n  slow storage, killed 3 times while writing: images lost {lost}, {seconds[0]:.1f} s")
