"""The search algorithm: Optuna hears the truth of each trial, and a killed study goes on with the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tests.tuning.studies import result, started
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.search.samplers import open_storage
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

CONFIG = StudyConfig(trials=5, confirm_seeds=2, confirm_top=1)


class _Study:
    """A study without training: records are made up as trials end."""

    def __init__(
        self, path: Path, records: dict[TrialKey, TrialRecord] | None = None, config: StudyConfig = CONFIG
    ) -> None:
        self.plan = StudyPlan(config, dict(records or {}))
        self.runs: dict[str, RunConfig] = {}
        self.stopped: str | None = None
        self.search = StudySearch(
            config,
            SearchSpace.load("default"),
            self.plan,
            open_storage(None, path.parent),
            self._job,
            self._ended,
        )

    def _job(self, planned: TrialSpec, run: RunConfig) -> dict[str, Any]:
        self.runs[planned.key] = run
        return {"key": planned.key}

    def _ended(self, planned: TrialSpec, ended: RunResult | None) -> None:
        record = started(planned, self.runs[planned.key])
        if self.stopped is not None:
            record = record.pruned(self.stopped, 100, [(100, 9.0)])
        elif ended is None:
            record = record.failed("out of memory")
        else:
            record = record.finished(ended)
        self.plan.ended(record)

    def finish(self, trial_id: str, fid: float) -> None:
        ended = json.dumps(result(fid).to_json())
        self.search.on_trial_complete(trial_id, {"outcome": "finished", "fid": fid, "result": ended})

    def play(self, prefix: str = "t") -> list[str]:
        keys = []
        while (suggested := self.search.suggest(f"{prefix}{len(keys)}")) != Searcher.FINISHED:
            self.finish(f"{prefix}{len(keys)}", fid=float(len(keys) + 3))
            keys.append(suggested["key"])
        return keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


def test_every_searched_trial_is_complete_in_optuna_and_controls_are_not_among_them(path: Path) -> None:
    study = _Study(path)
    keys = study.play()
    trials = study.search.study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * CONFIG.trials
    assert len([key for key in keys if key.startswith("search-")]) == CONFIG.trials
    assert keys[0] == "control-uniform"
    assert len(keys) <= CONFIG.maximum_trials(0)


def test_the_start_points_of_the_space_come_first_in_their_order(path: Path) -> None:
    study = _Study(path)
    study.play()
    orders = [study.runs[f"search-00{i}"].schedule.order.direction for i in range(3)]
    assert orders == ["easy_to_hard", "hard_to_easy", "random"]


def test_a_crash_is_a_fail_and_a_stop_is_pruned_never_a_score(path: Path) -> None:
    study = _Study(path)
    for trial_id in ("uniform", "crashes", "is stopped"):
        study.search.suggest(trial_id)
    study.search.on_trial_complete("crashes", None, error=True)
    study.stopped = "worse than the others"
    study.search.on_trial_complete("is stopped", {"outcome": "stopped", "fid": 0.1})
    states = [trial.state for trial in study.search.study.trials[:2]]
    assert states == [TrialState.FAIL, TrialState.PRUNED]
    assert study.search.study.trials[0].value is None
    assert study.search.study.trials[1].user_attrs["reason"] == "worse than the others"
    assert study.search.study.trials[1].intermediate_values == {100: 9.0}


def test_progress_before_the_end_tells_optuna_nothing(path: Path) -> None:
    study = _Study(path)
    for trial_id in ("uniform", "a"):
        study.search.suggest(trial_id)
    study.search.on_trial_result("a", {"loss": 1.0, "images": 5})
    assert study.search.study.trials[0].intermediate_values == {}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_goes_on_repeats_no_draw_of_its_earlier_starts(path: Path, sampler: str) -> None:
    config = StudyConfig.model_validate({"trials": 12, "confirm_top": 0, "sampler": sampler})
    records: dict[TrialKey, TrialRecord] = {}
    for start in range(3):
        study = _Study(path, records, config)
        for trial in range(4):
            study.search.suggest(f"{start}-{trial}")
            study.finish(f"{start}-{trial}", fid=float(10 * start + trial))
        records = study.plan.records
    found = study.search.study.get_trials(states=(TrialState.COMPLETE,))
    assert len(found) > 8
    drawn = [trial.params["schedule.pacing.patience_stage_share"] for trial in found[3:]]
    assert len({*drawn}) == len(drawn)


def test_a_killed_study_goes_on_with_the_very_trials_that_were_running(path: Path) -> None:
    first = _Study(path)
    for trial_id in ("uniform", "a", "b", "c", "d"):
        first.search.suggest(trial_id)
    first.finish("uniform", 5.0)
    first.finish("a", 4.0)
    running = {
        key: run for key, run in first.runs.items() if key in ("search-001", "search-002", "search-003")
    }
    second = _Study(path, first.plan.records)
    keys = second.play("again")
    assert not {"control-uniform", "search-000"} & set(keys)
    assert {key: second.runs[key] for key in running} == running
    assert [trial.state for trial in second.search.study.trials] == [TrialState.COMPLETE] * CONFIG.trials


def test_a_trial_recorded_just_before_the_kill_is_told_to_optuna_and_not_run_again(path: Path) -> None:
    first = _Study(path)
    for trial_id in ("uniform", "a", "b"):
        first.search.suggest(trial_id)
    first._ended(first.search._planned["a"], result(4.0))
    first._ended(first.search._planned["b"], None)
    second = _Study(path, first.plan.records)
    states = {trial.user_attrs.get("curriculum_ray.key"): trial for trial in second.search.study.trials}
    assert states["search-000"].value == 4.0
    assert states["search-001"].state == TrialState.FAIL
    assert not {"search-000", "search-001"} & set(second.play("again"))


def test_every_trial_has_the_same_budget_and_protocol(path: Path) -> None:
    study = _Study(path)
    study.play()
    alike = {
        run.model_copy(update={"schedule": CONFIG.run.schedule, "seed": 0}).model_dump_json()
        for run in study.runs.values()
    }
    assert len(alike) == 1


COMPRESSED = StudyConfig.model_validate(
    {"trials": 4, "confirm_seeds": 2, "fidelity": {"rule": "compressed", "reduction": 2, "rungs": 1}}
)


def test_a_score_at_a_smaller_budget_is_never_a_complete_one(path: Path) -> None:
    study = _Study(path, config=COMPRESSED)
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


def test_a_stop_recorded_just_before_the_kill_is_told_to_optuna_and_not_run_again(path: Path) -> None:
    first = _Study(path)
    for trial_id in ("uniform", "a"):
        first.search.suggest(trial_id)
    first.stopped = "worse than the others"
    first._ended(first.search._planned["a"], None)
    second = _Study(path, first.plan.records)
    told = second.search.study.trials[0]
    assert (told.state, told.user_attrs["reason"]) == (TrialState.PRUNED, "worse than the others")
    assert told.intermediate_values == {100: 9.0}
    assert "search-000" not in second.play("again")


def test_only_searched_trials_are_looked_at_for_stopping(path: Path) -> None:
    settings = {"trials": 2, "confirm_seeds": 2, "fidelity": {"rule": "after_last_stage", "rungs": 4}}
    study = _Study(path, config=StudyConfig.model_validate(settings))
    study.play()
    looked_at = {key for key, run in study.runs.items() if run.preview is not None}
    assert looked_at == {"search-000", "search-001"}
    preview = study.runs["search-000"].preview
    assert preview is not None
    assert (preview.every_images, preview.num_samples) == (CONFIG.run.total_images // 5, 500)
