"""A study through real Ray and Tune: what a trial's failure and what the search's own look like to the user."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from curriculum_ray.distributed.capacity import Capacity
from curriculum_ray.distributed.slots import slots_left
from tuning.cli import main
from tuning.evidence.keys import TrialKey
from tuning.search import launch
from tuning.search.ray_tune.run import Events, _own_signals
from tuning.search.samplers import open_storage
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.tracking import Tracker

SMALL_SPACE = str(Path(__file__).parents[2] / "small_space.yaml")
SETTINGS: dict[str, Any] = {
    "space": SMALL_SPACE,
    "trials": 1,
    "confirm_top": 0,
    "resources": {"num_workers": 1, "cpus_per_worker": 0.5},
    "run": {
        "images": 3200,
        "log_every_images": 640,
        "model": {"base_channels": 8},
        "evaluation": {"num_samples": 64},
        "checkpoint": {"every_images": 640},
    },
}


@pytest.fixture
def in_shared_ray(ray_of_two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that finds the tests' Ray in the place of one of its own."""

    @contextmanager
    def connection(*_: Any) -> Iterator[Capacity]:
        import ray

        yield Capacity.of(ray.cluster_resources())

    monkeypatch.setattr(launch, "connected", connection)


def test_an_actor_that_failed_and_is_started_again_is_said(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(None, None)  # type: ignore[arg-type]  # neither is asked
    error = RuntimeError("Traceback ...\n  in save\nRuntimeError: no folder at https://me:secret@store/x\n")
    job = SimpleNamespace(key="search-003")
    for found, said in (
        (error, "failed: RuntimeError: no folder at https://store/x"),
        (None, "no reason is known"),
    ):
        trial: Any = SimpleNamespace(config={"job": job}, get_error=lambda found=found: found)
        events.on_trial_recover(0, [], trial)
        assert caplog.messages[-1].startswith("search-003: Ray Tune starts the trial's actor again")
        assert caplog.messages[-1].endswith(said)


def test_handlers_that_tune_replaces_are_put_back_after_an_error() -> None:
    def tune() -> None:
        with _own_signals():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise KeyError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError):
        tune()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_trial_that_diverges_is_recorded_as_failed_with_its_reason_everywhere(
    in_shared_ray: None, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Adam's steps are a long mean of gradients over the latest one alone.
    run = {**SETTINGS["run"], "optimizer": {"learning_rate": 1.0, "betas": [0.999, 0.0]}}
    config = StudyConfig.model_validate({**SETTINGS, "run": run})
    shown = io.StringIO()
    outcome = launch.run_study(config, output, "diverging", None, 1, Console(file=shown, width=200))
    records = {record.key: record for record in outcome.records}
    assert {key: record.status for key, record in records.items()} == {
        "control-uniform": "failed",
        "search-000": "failed",
    }
    reason = records[TrialKey("search-000")].reason
    assert reason is not None
    assert reason.startswith("NonFiniteLoss: ")
    stored = json.loads((outcome.folder / "trials" / "search-000" / "record.json").read_text())
    assert (stored["status"], stored["reason"]) == ("failed", reason)
    storage = open_storage(None, outcome.folder)
    (trial,) = optuna.load_study(study_name=None, storage=storage).trials
    assert (trial.state, trial.value, trial.user_attrs["reason"]) == (TrialState.FAIL, None, reason)
    with Tracker.open(None, output, outcome.experiment) as tracker:
        experiments = [one.experiment_id for one in tracker.store.client.search_experiments()]
        runs = tracker.store.client.search_runs(experiments, "tags.`curriculum_ray.trial` = 'search-000'")
    assert [(one.info.status, one.data.tags["curriculum_ray.reason"]) for one in runs] == [("FAILED", reason)]
    assert reason in shown.getvalue().replace("\n", "")
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err + shown.getvalue()
    assert not slots_left()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["suggest", "ended"])
def test_an_error_of_the_search_while_a_slot_starts_or_a_trial_ends_is_one_line(
    in_shared_ray: None,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    step: str,
) -> None:
    def broken(self: StudySearch, *record: Any) -> None:
        raise RuntimeError("the database is gone\nand with it the trials")

    monkeypatch.setattr(StudySearch, step, broken)
    settings = output.parent / "study.yaml"
    settings.write_text(json.dumps(SETTINGS))
    arguments = ["--config", str(settings), "--output", str(output), "--name", "broken", "--concurrent", "1"]
    with pytest.raises(SystemExit) as caught:
        main(["search", *arguments])
    assert caught.value.code == 1
    printed = capfd.readouterr()
    (said,) = [line for line in printed.err.splitlines() if line]
    reason = "error: the search cannot go on: RuntimeError: the database is gone and with it the trials"
    assert said.startswith(reason)
    assert "Traceback" not in printed.out
    assert "in broken" in (output / "broken" / "error.txt").read_text()
    assert not slots_left()
    assert json.loads((output / "broken" / "status.json").read_text())["state"] == "failed"
