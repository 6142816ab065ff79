"""Tune's search algorithm hands on what the study's suggests, and what became of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from curriculum_ray.runs.result import RunResult
from tests.tuning.search.drivers import Driver
from tests.tuning.studies import result as run_result
from tuning.search.ray_tune.searcher import TuneSearcher
from tuning.study.config import StudyConfig
from tuning.study.trial_spec import TrialSpec


class _Study:
    """A study whose trials are begun and ended by Tune's search algorithm."""

    def __init__(self, folder: Path) -> None:
        self.driver = Driver(folder, StudyConfig(trials=2, confirm_top=0))
        self.results: dict[str, RunResult | None] = {}
        self.searcher = TuneSearcher(self.driver.search, self._begin, self._ended)

    def _begin(self, planned: TrialSpec, run: Any) -> dict[str, Any]:
        self.driver.planned[planned.key], self.driver.runs[planned.key] = planned, run
        return {"job": {"key": planned.key}}

    def _ended(self, planned: TrialSpec, result: RunResult | None) -> None:
        self.results[planned.key] = result
        self.driver.end(planned.key, None if result is None else result.metrics["fid"])


def test_trials_are_handed_out_until_the_study_is_complete(tmp_path: Path) -> None:
    study = _Study(tmp_path)
    begun = [study.searcher.suggest(trial_id) for trial_id in ("a", "b", "c")]
    assert [each["job"]["key"] for each in begun] == ["control-uniform", "search-000", "search-001"]
    assert study.searcher.suggest("d") is None, "the best one's twins are not known yet"
    final = run_result(5.0)
    text = json.dumps(final.to_json())
    study.searcher.on_trial_complete("a", {"outcome": "finished", "fid": 5.0, "result": text})
    study.searcher.on_trial_complete("b", {"outcome": "failed", "loss": 0.5})
    study.searcher.on_trial_complete("c", None, error=True)
    assert study.results == {"control-uniform": final, "search-000": None, "search-001": None}
    assert study.searcher.suggest("e") == Searcher.FINISHED


def test_tune_keeps_nothing_of_a_search(tmp_path: Path) -> None:
    study = _Study(tmp_path)
    study.searcher.save(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
    # As a copy, so what is pickled.
    assert not vars(copy.copy(study.searcher))
