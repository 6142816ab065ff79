"""The main job as a person meets it: search, best, and what follows, each a real process; slow ones with Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.door import start_tune

SMALL_SPACE = str(Path(__file__).with_name("small_space.yaml"))
TINY = [
    "--space",
    SMALL_SPACE,
    "--trials",
    "2",
    "--images",
    "3200",
    "--num-samples",
    "64",
    "--confirm-seeds",
    "2",
    "--set",
]
TINY += [
    "run.log_every_images=640",
    "--set",
    "run.checkpoint.every_images=640",
    "--set",
    "run.model.base_channels=8",
]


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return start_tune(folder, *arguments, dropped=("OMP_NUM_THREADS",), stderr=subprocess.PIPE)


def _json(folder: Path, *arguments: str) -> dict[str, Any]:
    process = _start(folder, *arguments, "--json")
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("main-job")


@pytest.fixture(scope="module")
def study(folder: Path) -> dict[str, Any]:
    """A whole search."""
    return _json(folder, "search", *TINY)


def _runs(folder: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, "tags.`curriculum_ray.kind` = 'trial'"))


def _check_whole(folder: Path, study: dict[str, Any]) -> None:
    trials = study["trials"]
    assert {trial["status"] for trial in trials} == {"finished"}
    assert len({trial["key"] for trial in trials}) == len(trials)
    assert {trial["images"] for trial in trials} == {3200}
    assert study["problems"] == []
    assert len({trial["fingerprint"] for trial in trials}) == 1
    assert len(_runs(folder)) == len(trials), "one MLflow run a trial, interrupted or not"


def test_every_trial_of_a_search_finishes_and_runs_once(folder: Path, study: dict[str, Any]) -> None:
    _check_whole(folder, study)


def test_a_search_leaves_no_pickle(folder: Path, study: dict[str, Any]) -> None:
    assert not list((folder / "runs").rglob("*.pkl"))


@pytest.mark.slow
def test_an_interrupted_search_says_how_to_go_on_and_the_same_command_runs_nothing_twice(
    tmp_path: Path,
) -> None:
    process = _start(tmp_path, "search", *TINY)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "(1/" in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    said = "".join(lines) + out
    assert "the same command goes on" in said
    assert "Traceback" not in said
    _check_whole(tmp_path, _json(tmp_path, "search", *TINY))


def test_controls_and_confirmations_are_among_the_trials(study: dict[str, Any]) -> None:
    trials = study["trials"]
    controls = {trial["control"] for trial in trials if trial["role"] == "control"}
    assert "uniform" in controls
    orders = {trial["schedule"]["order"]["direction"] for trial in trials}
    assert {"easy_to_hard", "hard_to_easy", "random", "none"} <= orders
    confirmed = [trial for trial in trials if trial["role"] == "confirmation"]
    assert len({trial["seed"] for trial in confirmed}) == 2
    assert len(confirmed) == 4
    assert "uniform" in study["answer"]


def test_every_run_is_in_mlflow_with_its_schedule_and_pictures(folder: Path, study: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    for run in _runs(folder):
        assert run.info.status == "FINISHED"
        assert {"fid", "kid", "precision", "recall", "loss"} <= run.data.metrics.keys()
        assert run.data.params["images"] == "3200"
        files = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert {"schedule.yaml", "samples.png", "sampled_timesteps.png", "heldout.json"} <= files
        points = client.get_metric_history(run.info.run_id, "heldout_loss_15")
        assert [point.step for point in points] == [512, 1024, 1536, 2048, 2560, 3072, 3200]
        mean = sum(run.data.metrics[f"heldout_loss_{level:02d}"] for level in range(16)) / 16
        assert run.data.metrics["heldout_loss"] == pytest.approx(mean)


def test_the_report_is_written(study: dict[str, Any]) -> None:
    text = Path(study["report"]).read_text()
    assert "<html" in text
    assert "Where it gains, by noise level" in text


def test_best_asks_mlflow_and_writes_the_schedule(folder: Path, study: dict[str, Any]) -> None:
    from curriculum_ray.curriculum import CurriculumSchedule

    for path in Path(study["folder"]).rglob("record.json"):
        path.rename(path.with_suffix(".hidden"))
    found = _json(folder, "best")
    written = CurriculumSchedule.from_file(folder / "schedule.yaml")
    assert written.model_dump(mode="json") == CurriculumSchedule.from_dict(found["schedule"]).model_dump(
        mode="json"
    )
    assert found["study"] == study["study"]


@pytest.mark.slow
def test_a_trial_can_be_sampled_and_evaluated_again(folder: Path, study: dict[str, Any]) -> None:
    trial = next(trial for trial in study["trials"] if trial["control"] == "uniform")
    sampled = _json(
        folder, "sample", "--checkpoint", trial["folder"], "--num-samples", "9", "--output", "grid"
    )
    assert (folder / sampled["path"]).stat().st_size > 0
    again = _json(folder, "evaluate", "--checkpoint", trial["folder"], "--num-samples", "64")
    assert again["fingerprint"] == trial["fingerprint"]
    assert again["metrics"] == pytest.approx(
        {key: trial["metrics"][key] for key in again["metrics"]}, rel=0.05
    )


@pytest.mark.slow
def test_the_schedule_trains_a_model_on_two_workers_and_the_same_command_shows_its_result(
    folder: Path, study: dict[str, Any]
) -> None:
    _json(folder, "best")
    command = [
        "train",
        "--schedule",
        "schedule.yaml",
        "--num-workers",
        "2",
        "--images",
        "3200",
        "--seed",
        "5",
    ]
    command += ["--set", "evaluation.num_samples=64", "--set", "model.base_channels=8"]
    first = _json(folder, *command)
    assert first["images"] == 3200
    assert first["metrics"]["fid"] > 0
    assert Path(first["checkpoint"]).is_dir()
    assert _json(folder, *command) == first
    process = _start(folder, *command, "--set", "optimizer.learning_rate=1e-4")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "optimizer.learning_rate was 0.002 and is 0.0001" in err
