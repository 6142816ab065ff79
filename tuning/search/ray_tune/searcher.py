"""A study's search as Ray Tune's search algorithm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tuning.search.ray_tune.errors import past_tune
from tuning.search.study_search import StudySearch
from tuning.study.trial_spec import TrialSpec

__all__ = ["TuneSearcher"]


class TuneSearcher(Searcher):
    """Hands the trials of a `StudySearch` to Tune as configurations, and returns their results.

    begin: returns the configuration of a trial. ended: called with a trial's result, or None.
    """

    def __init__(
        self,
        search: StudySearch,
        begin: Callable[[TrialSpec, RunConfig], dict[str, Any]],
        ended: Callable[[TrialSpec, RunResult | None], None],
    ) -> None:
        super().__init__()
        self._search, self._begin, self._ended = search, begin, ended
        self._running: dict[str, TrialSpec] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; None to wait, FINISHED when the study is complete."""
        suggested = self._search.suggest()
        if suggested is None:
            return Searcher.FINISHED if self._search.complete else None
        planned, run = suggested
        self._running[trial_id] = planned
        return self._begin(planned, run)

    @past_tune()
    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial ended; only one that finished has a result."""
        final = result if result is not None and result.get("outcome") == "finished" and not error else None
        planned = self._running.pop(trial_id)
        self._ended(
            planned,
            None
            if final is None
            else RunResult.from_json(json.loads(final["result"]), f"the result of {planned.key}"),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from Optuna's storage and its trials' records."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""
