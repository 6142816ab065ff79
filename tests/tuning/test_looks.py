"""A real study whose trials are looked at after their last stage: what is stopped is PRUNED wherever it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tuning.search.samplers import open_storage

ROOT = Path(__file__).parent.parent.parent
SETTINGS = """
run:
  images: 19200
  log_every_images: 1280
  model: {base_channels: 8}
  evaluation: {num_samples: 64}
trials: 5
confirm_seeds: 2
halving: {rule: after_last_stage, rungs: 4, settle: 0.1, num_samples: 64}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trials_are_stopped_in_their_last_stage_and_recorded_as_pruned_everywhere(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SETTINGS)
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    command = ["search", "--config", "study.yaml", "--name", "looks", "--concurrent", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tune", *command],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    trials = {trial["key"]: trial for trial in found["trials"]}
    pruned = {key: trial for key, trial in trials.items() if trial["status"] == "pruned"}
    # One at a time, the first is never stopped, and of each look's trials half go on.
    assert 1 <= len(pruned) <= 4
    assert "search-000" not in pruned
    assert all(
        trial["role"] == "searched" and "in its last stage" in trial["reason"] for trial in pruned.values()
    )
    assert {trial["status"] for key, trial in trials.items() if key not in pruned} == {"finished"}
    for key, trial in pruned.items():
        lines = [
            json.loads(line) for line in (Path(trial["folder"]) / "metrics.jsonl").read_text().splitlines()
        ]
        assert lines[-1]["stage"] == lines[-1]["num_stages"] - 1
        # One of the four looks.
        assert trial["images"] in {look * 3840 for look in (1, 2, 3, 4)}
        assert not list(Path(found["folder"]).glob(f"slots/*/{key}*"))
    storage = open_storage(None, Path(found["folder"]))
    known = optuna.load_study(study_name="curriculum", storage=storage).trials
    assert {each.user_attrs["curriculum_ray.key"] for each in known} == {
        key for key in trials if key.startswith("search-")
    }
    for each in known:
        trial = trials[each.user_attrs["curriculum_ray.key"]]
        assert each.state.name == {"pruned": "PRUNED", "finished": "COMPLETE"}[trial["status"]]
        assert each.intermediate_values == dict(trial["rungs"])
        assert each.user_attrs.get("reason") == trial.get("reason")
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, "tags.`curriculum_ray.kind` = 'trial'")
    assert len(runs) == len(trials)
    for run in runs:
        trial = trials[run.data.tags["curriculum_ray.trial"]]
        assert run.info.status == {"pruned": "KILLED", "finished": "FINISHED"}[trial["status"]]
        assert run.data.tags.get("curriculum_ray.reason") == trial.get("reason")
