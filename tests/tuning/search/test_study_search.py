"""The search algorithm: Optuna hears the truth of each trial, and a killed study goes on with the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.tuning.search.drivers import Driver
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.search.samplers import open_storage
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls

CONFIG = StudyConfig(trials=5, confirm_seeds=2, confirm_top=1)


def test_every_searched_trial_is_complete_in_optuna_and_controls_are_not_among_them(tmp_path: Path) -> None:
    study = Driver(tmp_path, CONFIG)
    keys = study.play()
    trials = study.search.study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * CONFIG.trials
    assert len([key for key in keys if key.startswith("search-")]) == CONFIG.trials
    assert keys[0] == "control-uniform"
    assert len(keys) <= CONFIG.maximum_trials(Controls())


def test_the_start_points_of_the_space_come_first_in_their_order(tmp_path: Path) -> None:
    study = Driver(tmp_path, CONFIG)
    study.play()
    orders = [study.runs[f"search-00{i}"].schedule.order.direction for i in range(3)]
    assert orders == ["easy_to_hard", "hard_to_easy", "random"]


def test_a_crash_is_a_fail_and_a_stop_is_pruned_never_a_score(tmp_path: Path) -> None:
    study = Driver(tmp_path, CONFIG)
    assert [study.start() for _ in range(3)] == ["control-uniform", "search-000", "search-001"]
    study.end("search-000", None, reason="out of memory")
    study.end("search-001", None, status="pruned", reason="worse than the others", rungs=[(100, 9.0)])
    crashed, stopped = study.search.study.trials[:2]
    assert (crashed.state, crashed.value) == (TrialState.FAIL, None)
    assert crashed.user_attrs["reason"] == "out of memory"
    assert (stopped.state, stopped.user_attrs["reason"]) == (TrialState.PRUNED, "worse than the others")
    assert stopped.intermediate_values == {100: 9.0}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_goes_on_repeats_no_draw_of_its_earlier_starts(tmp_path: Path, sampler: str) -> None:
    config = StudyConfig.model_validate({"trials": 12, "confirm_top": 0, "sampler": sampler})
    records: dict[TrialKey, TrialRecord] = {}
    for start in range(3):
        study = Driver(tmp_path, config, records)
        for trial in range(4):
            key = study.start()
            assert key is not None
            study.end(key, fid=float(10 * start + trial))
        records = study.plan.records
    found = study.search.study.get_trials(states=(TrialState.COMPLETE,))
    assert len(found) > 8
    drawn = [trial.params["schedule.pacing.patience_stage_share"] for trial in found[3:]]
    assert len({*drawn}) == len(drawn)


def test_a_killed_study_goes_on_with_the_very_trials_that_were_running(tmp_path: Path) -> None:
    first = Driver(tmp_path, CONFIG)
    for _ in range(5):
        first.start()
    first.end("control-uniform", 5.0)
    first.end("search-000", 4.0)
    running = {
        key: run for key, run in first.runs.items() if key in ("search-001", "search-002", "search-003")
    }
    second = Driver(tmp_path, CONFIG, first.plan.records)
    keys = second.play()
    assert not {"control-uniform", "search-000"} & set(keys)
    assert {key: second.runs[key] for key in running} == running
    assert [trial.state for trial in second.search.study.trials] == [TrialState.COMPLETE] * CONFIG.trials


@pytest.mark.parametrize("fid", [4.0, None])
def test_a_trial_whose_record_was_lost_runs_again_with_the_schedule_that_it_had(
    tmp_path: Path, fid: float | None
) -> None:
    config = CONFIG.model_copy(update={"trials": 8})
    first = Driver(tmp_path, config)
    while "search-007" not in first.planned:
        key = first.start()
        assert key is not None
        first.end(key, fid if key == "search-005" else 5.0 + len(first.planned))
    again = Driver(
        tmp_path, config, {key: value for key, value in first.plan.records.items() if key != "search-005"}
    )
    assert again.start() == "search-005"
    assert again.runs["search-005"] == first.runs["search-005"]
    again.end("search-005", 4.5)
    states = [trial.state for trial in again.search.study.trials]
    assert states[8:] == [TrialState.COMPLETE]


@pytest.mark.parametrize("halving", [{}, {"halving": {"rule": "compressed"}}])
def test_schedules_that_optunas_study_lost_are_counted(tmp_path: Path, halving: dict[str, Any]) -> None:
    config = StudyConfig.model_validate({"trials": 5, "confirm_seeds": 2, "confirm_top": 1, **halving})
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    first = Driver(tmp_path / "here", config)
    first.play()
    assert first.search.forgotten == 0
    assert Driver(tmp_path / "here", config, first.plan.records).search.forgotten == 0
    tried = [record for record in first.plan.records.values() if record.role == "searched"]
    assert Driver(tmp_path / "elsewhere", config, first.plan.records).search.forgotten == len(tried) > 0


def test_trials_recorded_just_before_the_kill_are_told_to_optuna_and_not_run_again(tmp_path: Path) -> None:
    first = Driver(tmp_path, CONFIG)
    for _ in range(4):
        first.start()
    records = [
        first.record("search-000", 4.0),
        first.record("search-001", None),
        first.record("search-002", None, status="pruned", reason="worse", rungs=[(100, 9.0)]),
    ]
    second = Driver(tmp_path, CONFIG, {record.key: record for record in records})
    finished, failed, pruned = second.search.study.trials
    assert (finished.state, finished.value) == (TrialState.COMPLETE, 4.0)
    assert failed.state == TrialState.FAIL
    assert (pruned.state, pruned.user_attrs["reason"]) == (TrialState.PRUNED, "worse")
    assert pruned.intermediate_values == {100: 9.0}
    assert not {"search-000", "search-001", "search-002"} & set(second.play())


def test_every_trial_has_the_same_budget_and_protocol(tmp_path: Path) -> None:
    study = Driver(tmp_path, CONFIG)
    study.play()
    alike = {
        run.model_copy(update={"schedule": CONFIG.run.schedule, "seed": 0}).model_dump_json()
        for run in study.runs.values()
    }
    assert len(alike) == 1


COMPRESSED = StudyConfig.model_validate(
    {"trials": 4, "confirm_seeds": 2, "halving": {"rule": "compressed", "reduction": 2, "rungs": 1}}
)


def test_a_score_at_a_smaller_budget_is_never_a_complete_one(tmp_path: Path) -> None:
    study = Driver(tmp_path, COMPRESSED)
    study.play()
    trials = study.search.study.trials
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == 2
    assert states.count(TrialState.PRUNED) == 2
    half = COMPRESSED.run.total_images // 2
    assert all(set(trial.intermediate_values) == {half} for trial in trials)
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            assert trial.value not in trial.intermediate_values.values()


def test_only_searched_trials_are_looked_at_for_stopping(tmp_path: Path) -> None:
    settings = {"trials": 2, "confirm_seeds": 2, "halving": {"rule": "after_last_stage", "rungs": 4}}
    study = Driver(tmp_path, StudyConfig.model_validate(settings))
    study.play()
    looked_at = {key for key, run in study.runs.items() if run.preview is not None}
    assert looked_at == {"search-000", "search-001"}
    preview = study.runs["search-000"].preview
    assert preview is not None
    assert (preview.every_images, preview.num_samples) == (CONFIG.run.total_images // 5, 500)


def test_the_study_is_what_optunas_own_tools_read(tmp_path: Path) -> None:
    """optuna-dashboard and the report's figures load it by its name."""
    study = Driver(tmp_path, COMPRESSED.model_copy(update={"storage": "sqlite"}))
    study.start()
    study.start()
    shown = optuna.load_study(study_name="curriculum", storage=open_storage("sqlite", tmp_path))
    (running,) = shown.trials
    assert (running.state, running.user_attrs["curriculum_ray.key"]) == (TrialState.RUNNING, "search-000")
    assert set(running.params) == set(running.distributions)
    study.end("rung0-000", 5.0)
    assert shown.trials[0].intermediate_values == {COMPRESSED.run.total_images // 2: 5.0}
    assert [direction.name for direction in shown.directions] == ["MINIMIZE"]


def _play(study: Driver, up_to: str | None = None) -> None:
    """Run what is left, up to the start of a trial; of two schedules the later one needs a larger budget to be good."""
    while (key := study.start()) is not None and key != up_to:
        planned = study.planned[key]
        number = 0 if planned.optuna is None else planned.optuna.number
        study.end(key, 50.0 + number if key.startswith("rung0-") else 50.0 - number)


@pytest.mark.parametrize(("trials", "promoted"), [(3, 1), (7, 5)])
@pytest.mark.parametrize("more", [8, 16])
def test_a_schedule_that_only_more_trials_promote_reports_its_later_scores(
    tmp_path: Path, trials: int, promoted: int, more: int
) -> None:
    halving = {"rule": "compressed", "reduction": 2, "rungs": 2}
    settings = {"confirm_seeds": 2, "confirm_top": 1, "halving": halving}
    first = Driver(tmp_path, StudyConfig.model_validate({**settings, "trials": trials}))
    _play(first)
    key, config = TrialKey.search(promoted), StudyConfig.model_validate({**settings, "trials": more})
    assert first.search.study.trials[promoted].state == TrialState.PRUNED
    # Its driver is killed while it runs.
    killed = Driver(tmp_path, config, first.plan.records)
    _play(killed, up_to=key.at_rung(1))
    assert key.at_rung(1) not in killed.plan.records
    again = Driver(tmp_path, config, killed.plan.records)
    _play(again)
    assert again.search.complete
    budgets, records = config.halving.budgets(config.run.total_images), again.plan.records
    trials_known = again.search.study.trials
    assert len(trials_known) == more + 1, "a trial was opened again without need"
    latest = {TrialKey(trial.user_attrs["curriculum_ray.key"]): trial for trial in trials_known}
    assert latest[key].state == TrialState.COMPLETE
    for name, trial in latest.items():
        rungs = {budgets[rung]: records.get(name.at_rung(rung)) for rung in range(2)}
        assert trial.intermediate_values == {
            images: record.metrics["fid"] for images, record in rungs.items() if record is not None
        }
        full = records.get(name)
        assert trial.state == (TrialState.PRUNED if full is None else TrialState.COMPLETE)
        assert full is None or trial.value == full.metrics["fid"]
