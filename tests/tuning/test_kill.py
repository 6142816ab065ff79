"""kill -9 of a search's driver at any moment: the same command resumes, runs nothing twice and loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.training.checkpoint import find_checkpoints
from tests.door import start_tune

TINY = [
    "--name",
    "killed",
    "--trials",
    "1",
    "--images",
    "6400",
    "--num-samples",
    "64",
    "--confirm-seeds",
    "2",
    "--space",
    str(Path(__file__).with_name("small_space.yaml")),
]
for _setting in (
    "run.log_every_images=640",
    "run.checkpoint.every_images=640",
    "run.model.base_channels=8",
    "rivals={}",
):
    TINY += ["--set", _setting]


def _search(folder: Path, *options: str) -> subprocess.Popen[str]:
    return start_tune(folder, "search", *TINY, *options)


def _files(pattern: str) -> Callable[[Path], set[str]]:
    return lambda study: {str(path) for path in study.glob(pattern)}


def _last_word(study: Path) -> set[str]:
    """ "finished" as soon as all trials have ended; MLflow's queue and the report come after it."""
    path = study / "status.json"
    return {json.loads(path.read_text())["state"]} - {"running"} if path.exists() else set()


# What is on disk at each point and was not when the driver that is to be killed started.
POINTS: dict[str, Callable[[Path], set[str]]] = {
    "before the first trial starts": _files("status.json"),
    "in the first trial, after a checkpoint": _files("slots/slot-*/*/state.json"),
    "as a checkpoint is written": _files("slots/slot-*/.*.tmp"),
    "as the first record is written": _files("trials/*/record.json"),
    "while publishing": _files("trials/*/sampled_timesteps.png"),
    "among the twins": _files("trials/twin-*/record.json"),
    "among the confirmations": _files("trials/confirm-*/record.json"),
    "while MLflow's queue drains at the end": _last_word,
    "as the report is written": _files("*report.html*"),
}


def _logged_before_checkpoints(study: Path) -> list[tuple[Path, str]]:
    """The log of each trial that has a checkpoint, up to its newest one."""
    found = []
    for folder in sorted(study.glob("trials/*")):
        checkpoints = [
            path for slot in study.glob("slots/slot-*") for path in find_checkpoints(slot, folder.name)
        ]
        log = folder / "metrics.jsonl"
        if checkpoints and log.exists():
            images = max(int(path.name.rpartition("-")[2]) for path in checkpoints)
            lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            found.append((log, "".join(line for line in lines if json.loads(line)["images"] <= images)))
    return found


def _kill_at(folder: Path, point: str) -> None:
    """Start the study, and kill its driver as soon as the point's mark appears."""
    study, mark = folder / "runs" / "killed", POINTS[point]
    before = mark(study)
    process = _search(folder)
    deadline = time.monotonic() + 600
    try:
        while not mark(study) - before:
            assert process.poll() is None, f"{point}: {process.communicate()[0]}"
            assert time.monotonic() < deadline, point
            time.sleep(0.001)
    finally:
        process.kill()
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"{point}: {out}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_command_goes_on_after_kill_9_at_every_point(tmp_path: Path) -> None:
    """One study is killed at all points, one after the other: each start goes on with what the last one left."""
    study = tmp_path / "runs" / "killed"
    records: dict[Path, str] = {}
    kept: list[tuple[Path, str]] = []
    for point in POINTS:
        _kill_at(tmp_path, point)
        for path, text in records.items():
            assert path.read_text() == text, f"{point}: a finished trial was run again"
        records |= {path: path.read_text() for path in study.glob("trials/*/record.json")}
        kept += _logged_before_checkpoints(study)
    again = _search(tmp_path, "--json")
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0, out
    found: dict[str, Any] = json.loads(out[out.index("{") :])
    assert found["problems"] == []
    assert kept
    for log, start in kept:
        # The lines hold a measured speed: a trial begun again would have others.
        assert log.read_text().startswith(start), f"{log} did not go on from its checkpoint"
    assert not list(study.glob("**/.*.tmp")), "half-written files were left behind"
    trials = found["trials"]
    assert len(trials) == len({trial["key"] for trial in trials}) == len(records)
    assert {trial["status"] for trial in trials} == {"finished"}
    for trial in trials:
        lines = (Path(trial["folder"]) / "metrics.jsonl").read_text().splitlines()
        images = [json.loads(line)["images"] for line in lines]
        assert images == sorted(set(images)), "what was logged after the checkpoint was not cut"
        assert images[-1] == 6400
    _every_trial_is_one_run_with_each_point_once(tmp_path, len(trials))
    _optuna_knows_each_searched_trial_once(study)


def _every_trial_is_one_run_with_each_point_once(folder: Path, trials: int) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, "tags.`curriculum_ray.kind` = 'trial'")
    assert len(runs) == trials
    for run in runs:
        assert run.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "fid")]
        assert steps == [6400]


def _optuna_knows_each_searched_trial_once(study: Path) -> None:
    import optuna

    from tuning.search.samplers import open_storage

    storage = open_storage(None, study)
    trials = optuna.load_study(study_name="curriculum", storage=storage).trials
    known = [trial for trial in trials if "curriculum_ray.key" in trial.user_attrs]
    assert [trial.state for trial in known] == [optuna.trial.TrialState.COMPLETE]
