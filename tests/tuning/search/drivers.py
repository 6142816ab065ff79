"""What drives a search without training: trials are started, and records of them are made up as they end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import FINGERPRINT, metrics, started
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.search.samplers import open_storage
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec


class Driver:
    """One start of a study's driver."""

    def __init__(
        self,
        folder: Path,
        config: StudyConfig,
        records: Mapping[TrialKey, TrialRecord] | None = None,
        space: SearchSpace | None = None,
    ) -> None:
        self.config, self.plan = config, StudyPlan(config, dict(records or {}))
        self.runs: dict[str, RunConfig] = {}
        self.planned: dict[str, TrialSpec] = {}
        storage = open_storage(config.storage, folder)
        self.search = StudySearch(config, space or SearchSpace.load("default"), self.plan, storage)

    def start(self) -> str | None:
        """Start the next trial and return its key; None where one must end first, or none is left."""
        suggested = self.search.suggest()
        if suggested is None:
            return None
        planned, run = suggested
        self.planned[planned.key], self.runs[planned.key] = planned, run
        return planned.key

    def record(self, key: str, fid: float | None, **changes: Any) -> TrialRecord:
        """The record of a trial that was started; without `fid` one that failed."""
        begun, images = started(self.planned[key], self.runs[key]), self.runs[key].total_images
        ended: dict[str, Any] = {"status": "failed", "reason": "out of memory"}
        if fid is not None:
            ended = {
                "status": "finished",
                "metrics": {**metrics(fid), "loss": 0.1},
                "fingerprint": FINGERPRINT,
            }
        return TrialRecord.model_validate({**dict(begun), "images": images, **ended, **changes})

    def end(self, key: str, fid: float | None, **changes: Any) -> None:
        """End a trial that was started; without `fid` it failed."""
        self.search.ended(self.record(key, fid, **changes))

    def play(self) -> list[str]:
        """Run what is left, one trial at a time; returns the keys."""
        keys = []
        while (key := self.start()) is not None:
            self.end(key, fid=float(len(keys) + 3))
            keys.append(key)
        assert self.search.complete
        return keys
