"""What clusters do to runs, with real processes and a real full disk: each goes on from its last checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from curriculum_ray.data import load_data
from curriculum_ray.distributed.preemption import Preempted, heeded
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.distributed import nodes

SETTINGS: dict[str, Any] = {**nodes.SETTINGS, "images": 16 * 600}

# Runs a job in a mount namespace of its own, all of whose folder is a disk of 2.5 checkpoints.
_ON_A_SMALL_DISK = """
import json, sys
from pathlib import Path
from curriculum_ray.distributed.job import run_job
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Job
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.world import World
place = Path(sys.argv[2])
config = RunConfig.model_validate_json(sys.argv[1])
job = Job.of("run", config, place / "run").assigned(place / "slot")
told = []
try:
    run_job(job, World(), lambda progress: False, lambda path, metrics: told.append(path is not None))
    end = "finished"
except checkpoints.CheckpointNotWritten as error:
    end = str(error)
kept = checkpoints.find_checkpoints(job.checkpoints, job.key)
images = [checkpoints.read(path).state["images"] for path in kept]
litter = [path.name for path in place.rglob("*.tmp")]
print(json.dumps({"told": told, "end": end, "kept": images, "litter": litter}))
"""


def _uninterrupted(config: RunConfig) -> Trainer:
    single = Trainer(config.train, load_data(config.data))
    train(single)
    return single


def _sampled(folder: Path) -> Any:
    return json.loads((folder / "sampled_timesteps.json").read_text())


@pytest.mark.slow
def test_a_disk_that_is_full_keeps_what_it_has_and_says_so_in_one_line_each_time(tmp_path: Path) -> None:
    mounts = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    probe = [*mounts, f"mount -t tmpfs none {tmp_path}"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this machine gives no mount namespaces to this user")
    config = RunConfig.model_validate(
        {
            **SETTINGS,
            "images": 16 * 12,
            "log_every_images": 32,
            "checkpoint": {"every_images": 32, "keep": 9},
            "schedule": {"version": 1},
        }
    )
    trainer = Trainer(config.train, load_data(config.data))
    trainer.step()
    sample = checkpoints.write(tmp_path / "sample", trainer.checkpoint())
    size = sum(file.stat().st_size for file in sample.iterdir())
    place = tmp_path / "disk"
    place.mkdir()
    command = f'mount -t tmpfs -o size={int(size * 2.5)} none {place} && exec "$0" "$@"'
    done = subprocess.run(
        [*mounts, command, sys.executable, "-c", _ON_A_SMALL_DISK, config.model_dump_json(), str(place)],
        capture_output=True,
        text=True,
        cwd=nodes.ROOT,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "was not written" in line]
    found = json.loads(done.stdout)
    assert found["told"] == [True, True, False, False, False]
    assert found["kept"] == [64, 32]
    assert found["litter"] == []
    assert found["end"].endswith("was not written: No space left on device; earlier ones still stand")
    assert [line.partition(" was not written: ")[0][-3:] for line in said] == ["096", "128", "160"]


def _train(folder: Path, settings: Path) -> subprocess.Popen[str]:
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.Popen(
        [sys.executable, "-m", "tune", "train", "--config", str(settings), "--name", "warned"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(nodes.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_first_sigterm_stops_and_further_ones_do_not_disturb_the_stopping() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped = []

    @heeded()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            stopped.append(True)

    with pytest.raises(Preempted):
        work()
    assert stopped
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_told_from_ctrl_c_where_a_call_into_ray_raises_a_plain_interrupt() -> None:
    @heeded()
    def in_ray(told: int) -> None:
        try:
            os.kill(os.getpid(), told)
            time.sleep(5)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(Preempted):
        in_ray(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        in_ray(signal.SIGINT)
    assert not isinstance(interrupted.value, Preempted)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on_from_it_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No checkpoint is due before the end, so that only the warning can have led to one.
    settings = {**SETTINGS, "images": 16 * 600, "checkpoint": {"every_images": 16 * 600}}
    config = RunConfig.model_validate(settings)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    folder = tmp_path / "runs" / "warned"
    log = folder / "metrics.jsonl"
    process = _train(tmp_path, tmp_path / "settings.yaml")
    deadline = time.monotonic() + 150
    while not (log.exists() and log.read_text().count("\n") >= 5):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=100)
    seconds = time.monotonic() - told
    assert process.returncode == 143, out
    assert out.rstrip().endswith("error: ended by SIGTERM; the same command resumes"), out
    (kept,) = checkpoints.find_checkpoints(folder, "run")
    images = int(checkpoints.read(kept).state["images"])
    assert images == json.loads(log.read_text().splitlines()[-1])["images"]
    assert images < config.total_images, "the run had ended before it was told to"
    again = _train(tmp_path, tmp_path / "settings.yaml")
    out, _ = again.communicate(timeout=200)
    assert again.returncode == 0, out
    result = json.loads((folder / "result.json").read_text())
    assert result["resumed_at"] == images
    single = _uninterrupted(config)
    assert result["loss"] == single.loss
    assert result["stage_starts"] == single.stage_starts
    assert _sampled(folder)["counts"] == single.histogram.as_json()["counts"]
    weights = checkpoints.read(result["checkpoint"]).tensors["model"]
    assert all(torch.equal(weights[name], value) for name, value in single.model.state_dict().items())
    with capsys.disabled():
        print(f"\n  SIGTERM: images lost 0, ended with a checkpoint after {seconds:.1f} s")
