"""A study that is run from Python leaves its report, and showing what came out writes nothing."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from rich.console import Console

from curriculum_ray.distributed.capacity import Capacity
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import CONFIG_FILE
from tests.tuning.studies import record, result, schedule, started
from tuning.cli.summary import as_object, show
from tuning.folder.layout import RECORD_FILE, REPORT_FILE, SPOOL_FILE, TIME_FILE, TRIALS
from tuning.search import launch
from tuning.search.ray_tune import run as ray_search
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster on which every trial is there already."""

    def search(config: StudyConfig, space: object, study: launch.StudyLedger, *_: object) -> None:
        folder = study.folder
        found = (record(8.0, folder=folder), record(9.0, key="control-uniform", folder=folder))
        study.records.update({each.key: each for each in found})

    monkeypatch.setattr(launch, "connected", lambda *_: contextlib.nullcontext(Capacity.of({"CPU": 2.0})))
    monkeypatch.setattr(launch, "search", search)


@pytest.mark.usefixtures("without_ray")
def test_a_study_leaves_its_report_and_showing_it_writes_nothing(tmp_path: Path) -> None:
    config = StudyConfig.model_validate({"trials": 1, "run": {"evaluation": {"num_samples": 64}}})
    console = Console(file=io.StringIO(), width=120)
    outcome = launch.run_study(config, tmp_path, "s", None, 1, console)
    assert outcome.report == tmp_path / "s" / REPORT_FILE
    assert "FID of the best schedule" in outcome.report.read_text()
    (tmp_path / "s" / REPORT_FILE).unlink()
    before = sorted(tmp_path.rglob("*"))
    show(config, outcome, console)
    assert as_object(config, outcome)["report"] == str(outcome.report)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("without_ray")
def test_a_damaged_record_is_named_before_its_trial_runs_again(tmp_path: Path) -> None:
    config = StudyConfig.model_validate({"trials": 1, "run": {"evaluation": {"num_samples": 64}}})
    path = tmp_path / "s" / TRIALS / "search-000" / RECORD_FILE

    def said() -> str:
        text = io.StringIO()
        launch.run_study(config, tmp_path, "s", None, 1, Console(file=text, width=500))
        return text.getvalue()

    assert "damaged" not in said()
    path.parent.mkdir()
    path.write_text("{")
    assert f"{path} is damaged: its trial counts as not ended, and runs again" in said()


@pytest.mark.usefixtures("without_ray")
def test_the_end_of_a_study_says_what_mlflow_lacks_and_where_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("413 Client Error: too large")

    monkeypatch.setattr("mlflow.MlflowClient.log_artifact", refuse)
    config = StudyConfig.model_validate({"trials": 1, "run": {"evaluation": {"num_samples": 64}}})
    outcome = launch.run_study(config, tmp_path, "s", None, 1, Console(file=io.StringIO(), width=120))
    assert outcome.problems == [
        "files are not taken for now, and wait: OSError: 413 Client Error: too large",
        f"3 writes to MLflow wait in {tmp_path / 's' / SPOOL_FILE}; the same command tries them again",
    ]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots of each connection to a cluster on which all trials but the last one end, and at the next start all."""
    connections: list[int] = []

    def connected(slots: int, *_: object) -> contextlib.AbstractContextManager[Capacity]:
        connections.append(slots)
        return contextlib.nullcontext(Capacity.of({"CPU": 2.0}))

    def search(config: StudyConfig, space: object, study: launch.StudyLedger, slots: int, *more: Any) -> None:
        """Every trial that is left but the last one, and then that one."""
        plan = StudyPlan(config, dict(study.records), rivals=more[0])
        most = plan.total - 1 if len(connections) == 1 else plan.total
        while len(plan.records) < most and (planned := plan.next()) is not None:
            drawn = RunConfig.model_validate(
                {"schedule": planned.schedule or schedule(8), "seed": planned.seed}
            )
            ended = started(planned, drawn).finished(result(8.0 + planned.seed % 3))
            plan.ended(ended)
            study.records[ended.key] = ended
            folder = study.folder / TRIALS / ended.key
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECORD_FILE).write_text(json.dumps(ended.to_json()))

    monkeypatch.setattr(launch, "connected", connected)
    monkeypatch.setattr(launch, "search", search)
    return connections


def test_a_study_that_is_complete_is_shown_again_without_a_cluster(
    tmp_path: Path, connections: list[int]
) -> None:
    config = StudyConfig.model_validate(
        {"trials": 1, "confirm_seeds": 2, "run": {"evaluation": {"num_samples": 64}}}
    )

    def run() -> dict[str, Any]:
        console = Console(file=io.StringIO(), width=120)
        outcome = launch.run_study(config, tmp_path, "s", None, 3, console)
        assert outcome.report.exists()
        return as_object(config, outcome)

    first, second = run(), run()
    assert len(second["trials"]) == len(first["trials"]) + 1
    again = run()
    assert connections == [3, 3]
    assert again["answer"] == second["answer"]
    assert {trial["key"] for trial in again["trials"]} == {trial["key"] for trial in second["trials"]}


def test_a_trial_that_ran_when_the_driver_was_killed_is_not_left_out_for_want_of_time(
    tmp_path: Path, connections: list[int]
) -> None:
    settings = {"trials": 2, "confirm_seeds": 2, "run": {"evaluation": {"num_samples": 64}}}

    def run(**changes: Any) -> launch.Outcome:
        config = StudyConfig.model_validate({**settings, **changes})
        return launch.run_study(config, tmp_path, "s", None, 3, Console(file=io.StringIO(), width=120))

    for _ in range(2):
        run()
    used = {"seconds": 3600.0, "hours": 1.0, "closed": ["opening"]}
    (tmp_path / "s" / TIME_FILE).write_text(json.dumps(used))
    lost = tmp_path / "s" / TRIALS / "search-001"
    (lost / RECORD_FILE).unlink()
    left_out = run(hours=1.0).left_out
    assert left_out is not None
    assert "1 schedule" in left_out
    assert connections == [3, 3]
    (lost / CONFIG_FILE).touch()
    assert run(hours=1.0).left_out is None
    assert connections == [3, 3, 3]


class _Planned(Exception):
    """The plan is made: enough is known."""


def test_the_search_itself_knows_the_trials_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / TRIALS / "search-003"
    begun.mkdir(parents=True)
    (begun / CONFIG_FILE).touch()

    def plan(*_: object, **settings: object) -> None:
        raise _Planned(settings["begun"])

    monkeypatch.setattr(ray_search, "StudyPlan", plan)
    config, space = StudyConfig(), SearchSpace.load("default")
    study: Any = SimpleNamespace(folder=tmp_path, records={})
    pace: Any = SimpleNamespace(budget=None, clock=SimpleNamespace(used=SimpleNamespace(closed=())))
    with pytest.raises(_Planned) as planned:
        ray_search.search(config, space, study, 1, {}, InMemoryStorage(), pace, config.resources)
    assert planned.value.args == ({"search-003"},)
