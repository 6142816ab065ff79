"""A study in a bucket whose driver is killed: another machine ends it with the same answer.

No Ray: its trials are trained here, one after the other, with all that a driver does around them.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.distributed.capacity import Capacity
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.runs.result import RunResult
from tests.buckets.places import bucket_in_memory
from tests.distributed.jobs import run_up_to
from tuning.cli.summary import as_object
from tuning.folder import bucket_lease, in_bucket
from tuning.search import launch
from tuning.search.pace import Pace
from tuning.search.samplers import study_name
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.ledger import StudyLedger
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace

SMALL = Path(__file__).parents[1] / "small_space.yaml"
CONFIG = StudyConfig.model_validate(
    {
        "trials": 2,
        "confirm_seeds": 2,
        "space": str(SMALL),
        "rivals": {},
        "run": {
            "data": {"name": "mixture2d"},
            "images": 16 * 24,
            "batch_size": 16,
            "window": 1,
            "log_every_images": 32,
            "checkpoint": {"every_images": 64},
            "evaluation": {"num_samples": 64, "steps": 4},
        },
    }
)


class _Killed(BaseException):
    """kill -9: nothing is tidied up."""


def _search(dies: Callable[[int, int], bool]) -> Callable[..., None]:
    """A search without Ray; `dies` is called with the trials that have ended and a running one's images."""

    def search(
        config: StudyConfig,
        space: SearchSpace,
        study: StudyLedger,
        concurrent: int,
        rivals: Mapping[str, Any],
        storage: optuna.storages.BaseStorage,
        pace: Pace,
        resources: ResourceSpec,
        copy: WorkingCopy | None = None,
    ) -> None:
        plan = StudyPlan(config, dict(study.records), rivals=rivals)
        name = study_name(config.storage, study.name, study.identity)
        algorithm = StudySearch(config, space, plan, storage, name, study.identity)
        while not plan.complete:
            suggested = algorithm.suggest()
            assert suggested is not None
            planned, run = suggested
            job = study.begin(planned, run).assigned(study.slot_folders(1)[0])
            stop = 192 if dies(len(study.records), 192) else None
            if stop is not None:
                _die_at(job, stop)
            result, _ = run_up_to(job)
            assert isinstance(result, RunResult)
            study.arrived(planned.key)
            algorithm.ended(study.finished(planned.key, result))

    return search


def _die_at(job: Any, images: int) -> None:
    """Train up to the checkpoint at `images`, which is uploaded, and no further."""
    from curriculum_ray.runs.run_copy import RunCopy

    usual = RunCopy.checkpoint

    def checkpoint(self: RunCopy, path: Path) -> None:
        usual(self, path)
        self.flush()
        if int(path.name[-12:]) >= images:
            raise _Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunCopy, "checkpoint", checkpoint)
        run_up_to(job)


def _records(study: Bucket) -> dict[str, bytes]:
    return {name: study.read(name) or b"" for name in study.sizes() if name.endswith("/record.json")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_goes_on_elsewhere_to_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_in_memory()
    console = Console(file=io.StringIO(), width=120)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(launch, "connected", lambda *_: contextlib.nullcontext(Capacity.of({"CPU": 2.0})))
    monkeypatch.setattr(bucket_lease, "SETTLE_S", 0.0)

    def run(machine: str, bucket: Bucket | None, dies: Callable[[int, int], bool]) -> dict[str, Any]:
        copy = None if bucket is None else WorkingCopy(tmp_path / machine, bucket)
        monkeypatch.setattr(launch, "search", _search(dies))
        outcome = launch.run_study(CONFIG, tmp_path / machine, "study", store, 1, console, copy=copy)
        assert outcome.problems == []
        return as_object(CONFIG, outcome)

    with monkeypatch.context() as killed:
        # What an orderly end would do.
        killed.setattr(in_bucket.Kept, "close", lambda self: self._end.set())
        killed.setattr(bucket_lease.BucketLease, "release", lambda self: self._end.set())
        with pytest.raises(_Killed):
            run("one", bucket, lambda ended, images: ended == 2)
    monkeypatch.setattr(bucket_lease, "is_alive", lambda process: False)
    shutil.rmtree(tmp_path / "one")
    before = _records(bucket / "study")
    assert len(before) == 2
    found = run("two", bucket, lambda ended, images: False)
    after = _records(bucket / "study")
    assert before == {name: after[name] for name in before}, "a trial that had ended was run again"
    assert found["report"] == f"{bucket.shown()}/study/report.html"
    assert b"FID" in ((bucket / "study").read("report.html") or b"")
    assert not list((tmp_path / "two").glob("study")), "what is in the bucket is left on the machine"

    whole = run("three", None, lambda ended, images: False)
    results = [
        {trial["key"]: (trial["status"], trial["schedule"], trial["metrics"]) for trial in each["trials"]}
        for each in (found, whole)
    ]
    assert results[0] == results[1]
    assert found["answer"] == whole["answer"]
    journal = tmp_path / "journal"
    assert (bucket / "study").download("optuna.journal", journal)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    trials = optuna.load_study(study_name="curriculum", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    slots = bucket / "study" / "slots"
    left = [name for slot in slots.folders() for name in stored_checkpoints.stored(slots / slot)]
    assert not left, "checkpoints of trials that have ended are kept twice"
    resumed = [trial["key"] for trial in found["trials"] if _resumed_at(bucket, trial["key"])]
    assert len(resumed) == 1, "the trial that was running did not go on from its checkpoint"


def _resumed_at(bucket: Bucket, key: str) -> int:
    content = (bucket / "study" / "trials" / key).read("result.json") or b""
    return RunResult.model_validate_json(content).resumed_at
