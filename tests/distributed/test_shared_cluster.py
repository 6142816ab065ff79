"""Studies on a cluster that changes, or that they share: trials of one or two workers, and shares of the nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import load_yaml, parse
from curriculum_ray.runs.config import RunConfig
from tests.distributed.nodes import ROOT, SETTINGS, Cluster, Command, cluster, log, state, undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SCORED = {"extractor": "random-cnn", "num_samples": 48, "steps": 2}
# By images: losses of two workers differ in rounding from those of one, and so may the end of a plateau.
FIXED = {
    "clusters": {"by": "uniform", "count": 3},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "fixed", "finish_by": 0.6},
}


def _search(
    folder: Path, there: Cluster, name: str, settings: dict[str, Any], *options: str, images: int = 16 * 800
) -> Command:
    run = {**SETTINGS, "images": images, "evaluation": SCORED, **settings.pop("run", {})}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"run": run, **settings}))
    environment = {**there.environment, "RAY_ADDRESS": there.address}
    return Command(
        ["-m", "tune", "search", "--config", str(path), "--name", name, *options], folder, environment
    )


def _ended(folder: Path) -> list[Path]:
    """The folders of the trials of a study, all of which have finished."""
    found = sorted(folder.glob("trials/*/record.json"))
    assert {json.loads(path.read_text())["status"] for path in found} == {"finished"}
    return [path.parent for path in found]


def _until_on(there: Cluster, command: Command, workers: int, seconds: float = 240.0) -> None:
    """Wait until a trial trains on so many workers."""
    deadline = time.monotonic() + seconds
    while len(there.where("RayTrainWorker")) != workers or not _trains(command, there):
        assert command.process.poll() is None, command.lines[-9:]
        assert time.monotonic() < deadline, command.lines[-20:]
        time.sleep(0.1)


def _trains(command: Command, there: Cluster) -> bool:
    """Whether the newest log of the study grows."""
    logs = list((there.folder.parent / "study").glob("runs/study/trials/*/metrics.jsonl"))
    before = sum(path.stat().st_size for path in logs)
    time.sleep(1.0)
    return sum(path.stat().st_size for path in logs) > before


def test_trials_shrink_and_grow_with_the_cluster_and_paired_arms_see_what_one_worker_sees(
    short: Path,
) -> None:
    folder = short.parent / "study"
    folder.mkdir()
    settings = {
        "run": {"schedule": {"version": 1}},
        "arms": {"fixed": {f"schedule.{key}": value for key, value in FIXED.items()}},
        "confirm_seeds": 2,
        "resources": {"num_workers": [1, 2], "resize_seconds": 5},
    }
    with cluster(short, "one", "two") as there:
        command = _search(folder, there, "study", settings)
        command.until("starting 1 to 2 workers")
        _until_on(there, command, 2)
        # It starts when all workers have started.
        deadline = time.monotonic() + 240
        while not (watcher := there.where("PreemptionWatcher")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        beside = there.where("TrainController"), watcher
        assert beside[0] == beside[1] != ["head"], "the driver's node has no room for one more with each slot"
        there.kill(there.where("RayTrainWorker")[0])
        _until_on(there, command, 1)
        there.start("late", cpus=1)
        _until_on(there, command, 2)
        assert command.end() == 0, command.lines
    ended = _ended(folder / "runs" / "study")
    assert len(ended) == 4
    for trial in ended:
        config = parse(RunConfig, load_yaml(trial / "config.yaml"), trial.name)
        ours, alone = state(trial), undisturbed(config, pieces=2)
        assert ours["counts"] == alone["counts"], trial.name
        assert ours["stage_starts"] == alone["stage_starts"], trial.name
        for line, ((images, loss, stage), (others, other, at)) in enumerate(
            zip(ours["curve"], alone["curve"], strict=True)
        ):
            assert (images, stage) == (others, at)
            # Sums round differently, and what training makes of that grows: from 1e-7 to some percent.
            assert loss == pytest.approx(other, rel=1e-3 if line < 4 else 0.1)


def test_two_studies_with_shares_train_at_the_same_time_and_both_end(short: Path) -> None:
    folders = {name: short.parent / name for name in ("first", "second")}
    space = str(ROOT / "tests" / "tuning" / "small_space.yaml")
    settings = {"space": space, "trials": 2, "confirm_top": 0, "run": {"schedule": {"version": 1}}}
    with cluster(short, head_cpus=2) as there:
        studies = {}
        for name, folder in folders.items():
            folder.mkdir()
            studies[name] = _search(folder, there, name, dict(settings), "--share", "0.5", images=16 * 200)
        together = False
        while any(command.process.poll() is None for command in studies.values()):
            lines = [
                sum(len(log(path)) for path in folder.glob("runs/*/trials/*")) for folder in folders.values()
            ]
            alive = all(command.process.poll() is None for command in studies.values())
            together = together or (alive and all(lines))
            time.sleep(0.5)
        for name, command in studies.items():
            assert command.end() == 0, command.lines
            assert any("starting 1 worker" in line for line in command.lines)
            assert len(_ended(folders[name] / "runs" / name)) == 5
        assert together
        told = subprocess.run(
            [sys.executable, "-m", "tune", "status", "--name", "first"],
            cwd=folders["first"],
            env=there.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "1 slot of 1 worker; there is room for 1, which is 0.5 of the cluster" in told.stdout
