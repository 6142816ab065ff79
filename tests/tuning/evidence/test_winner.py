"""The registry's `best` is a confirmed winner, or says honestly that it is uniform sampling."""

from pathlib import Path

import mlflow
import pytest

from tests.tuning.studies import record, schedule, write_trial
from tuning.evidence.arms import Ranking
from tuning.evidence.winner import registered
from tuning.tracking import Tracker
from tuning.tracking.registry import model_name, register


def fresh(fids, count, **changes):
    return [
        record(
            fid,
            key=f"confirm-search-{count:03d}-seed{seed}",
            role="confirmation",
            seed=seed,
            schedule=schedule(count, "none" if count == 1 else "easy_to_hard"),
            **changes,
        )
        for seed, fid in enumerate(fids, start=1000)
    ]


SEARCHED = [
    record(7.0, key="search-007", schedule=schedule(7)),
    record(8.0, key="control-uniform", role="control", control="uniform", schedule=schedule(1, "none")),
]
UNIFORM = fresh([10.0, 11.0, 10.5, 10.2, 10.8], 1, control="uniform")


def aliases(records):
    return {found.alias: (found.key, found.verdict) for found in registered(Ranking.of(records, "fid"))}


def test_a_schedule_that_beat_uniform_sampling_is_the_best():
    found = aliases([*SEARCHED, *UNIFORM, *fresh([8.0, 9.1, 8.4, 8.2, 8.9], 7)])
    assert found == {"best": ("search-007", "beats_uniform"), "candidate": ("search-007", "beats_uniform")}


def test_uniform_sampling_is_the_best_where_nothing_beat_it():
    found = aliases([*SEARCHED, *UNIFORM, *fresh([9.0, 12.0, 10.0, 11.0, 10.0], 7)])
    assert found == {"best": ("control-uniform", "uniform"), "candidate": ("search-007", "unconfirmed")}


def test_without_fresh_seeds_nothing_is_the_best():
    assert aliases(SEARCHED) == {"candidate": ("search-007", "unconfirmed")}
    assert aliases(SEARCHED[1:]) == {}


def test_the_name_finds_the_schedule_and_moves_with_the_answer(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Tracker.open(None, output, "digits/ddpm") as tracker:
        study = tracker.study("a", {}, {})
        handles = [
            write_trial(tracker, study, record(key=f"search-{count:03d}", schedule=schedule(count)), tmp_path)
            for count in (7, 8)
        ]
        tracker.flush()
        runs = [tracker.run_id(handle) for handle in handles]
        name = model_name("it's: a/study")
        address = register(tracker.store, name, runs[0], "best", "first", {"verdict": "uniform"})
        for _ in range(2):
            register(tracker.store, name, runs[1], "best", "second", {"verdict": "beats_uniform"})
        assert len(tracker.store.client.search_model_versions(f"name = '{name}'")) == 2
        version = tracker.store.client.get_model_version_by_alias(name, "best")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.store.uri)
        files = mlflow.artifacts.download_artifacts(address, tracking_uri=tracker.store.uri)
    assert address == "models:/it-s--a-study@best"
    assert "count: 8" in (Path(files) / "schedule.yaml").read_text()
    assert version.tags["curriculum_ray.verdict"] == "beats_uniform"
