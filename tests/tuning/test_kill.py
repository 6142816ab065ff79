"""kill -9 of a search's driver at any moment: the same command goes on, runs nothing twice and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
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
]
for _setting in (
    "run.log_every_images=640",
    "run.checkpoint.every_images=640",
    "run.model.base_channels=8",
    "rivals={}",
):
    TINY += ["--set", _setting]


def _search(folder: Path, *options: str) -> subprocess.Popen[str]:
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.Popen(
        [sys.executable, "-m", "tune", "search", *TINY, *options],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _records(study: Path, start: str) -> list[Path]:
    return list(study.glob(f"trials/{start}*/record.json"))


POINTS: dict[str, Callable[[Path], bool]] = {
    "before the first trial starts": lambda study: (study / "status.json").exists(),
    "in the first trial, after a checkpoint": lambda study: bool(
        list(study.glob("slots/slot-*/*/state.json"))
    ),
    "as the first record is written": lambda study: bool(_records(study, "")),
    "among the twins": lambda study: bool(_records(study, "search-")),
    "among the confirmations": lambda study: bool(_records(study, "confirm-")),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", POINTS)
def test_the_same_command_goes_on_after_kill_9(tmp_path: Path, point: str) -> None:
    study = tmp_path / "runs" / "killed"
    process = _search(tmp_path)
    deadline = time.monotonic() + 400
    while not POINTS[point](study):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, point
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = {path: path.read_text() for path in _records(study, "")}
    again = _search(tmp_path, "--json")
    out, _ = again.communicate(timeout=400)
    assert again.returncode == 0, out
    found: dict[str, Any] = json.loads(out[out.index("{") :])
    assert found["problems"] == []
    trials = found["trials"]
    assert {trial["status"] for trial in trials} == {"finished"}
    assert len({trial["key"] for trial in trials}) == len(trials)
    for path, text in before.items():
        assert path.read_text() == text, "a finished trial was run again"
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

    from tuning.samplers import open_storage

    storage = open_storage(None, study)
    trials = optuna.load_study(study_name="curriculum", storage=storage).trials
    known = [trial for trial in trials if "curriculum_ray.key" in trial.user_attrs]
    assert [trial.state for trial in known] == [optuna.trial.TrialState.COMPLETE]
