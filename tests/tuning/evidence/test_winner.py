"""The registry's `best` is a confirmed winner, or says honestly that it is uniform sampling."""

from pathlib import Path

import mlflow
import pytest

from tests.tuning.studies import UNIFORM as CONTROL
from tests.tuning.studies import fresh, record, schedule, trials, write_trial
from tuning.evidence.arms import Ranking
from tuning.evidence.winner import choose, registered
from tuning.tracking import Tracker
from tuning.tracking.registry import model_name, register

SEARCHED = [*trials(7.0), record(8.0, **CONTROL)]
UNIFORM = fresh([10.0, 11.0, 10.5, 10.2, 10.8], 1)
UNIFORM_AGAIN = fresh([10.01, 11.0, 10.49, 10.2, 10.8], 7)


def aliases(records):
    return {found.alias: (found.key, found.verdict) for found in registered(Ranking.of(records, "fid"))}


def test_a_schedule_that_beat_uniform_sampling_is_the_best():
    found = aliases([*SEARCHED, *UNIFORM, *fresh([8.0, 9.1, 8.4, 8.2, 8.9], 7)])
    assert found == {"best": ("search-007", "beats"), "candidate": ("search-007", "beats")}


def test_uniform_sampling_is_the_best_where_nothing_beat_it():
    found = aliases([*SEARCHED, *UNIFORM, *fresh([9.0, 12.0, 10.0, 11.0, 10.0], 7)])
    assert found == {"best": ("control-uniform", "undecided"), "candidate": ("search-007", "undecided")}


def test_without_fresh_seeds_nothing_is_the_best():
    assert aliases(SEARCHED) == {"candidate": ("search-007", "unconfirmed")}
    assert aliases(SEARCHED[1:]) == {}


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        (SEARCHED, ("7", "7", "unconfirmed")),
        ([*SEARCHED, *UNIFORM, *fresh([8.0, 9.1, 8.4, 8.2, 8.9], 7)], ("7", "7", "beats")),
        ([*SEARCHED, *UNIFORM, *fresh([9.0, 12.0, 10.0, 11.0, 10.0], 7)], ("uniform", "7", "undecided")),
        ([*SEARCHED, *UNIFORM, *fresh([12.0, 13.1, 12.4, 12.2, 12.9], 7)], ("uniform", "7", "loses")),
        ([*SEARCHED, *UNIFORM, *UNIFORM_AGAIN], ("uniform", "7", "equal")),
        # An interrupted study: one seed has no interval, and no fresh run of uniform sampling no difference.
        ([*SEARCHED, *UNIFORM[:1], *fresh([1.0], 7)], ("7", "7", "unconfirmed")),
        ([*SEARCHED, *fresh([1.0, 1.1], 7)], ("7", "7", "unconfirmed")),
    ],
)
def test_a_study_stands_for_a_schedule_only_if_its_answer_says_that_it_won(records, chosen):
    choice = choose(Ranking.of(records, "fid"))
    assert choice is not None
    names = ["uniform" if arm.is_uniform else arm.name.split()[0] for arm in (choice.arm, choice.curriculum)]
    assert (*names, choice.verdict) == chosen


def test_uniform_sampling_alone_leaves_nothing_to_choose():
    assert choose(Ranking.of([*SEARCHED[1:], *UNIFORM], "fid")) is None


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
        address = register(tracker.store, name, runs[0], "best", "first", {"verdict": "undecided"})
        for _ in range(2):
            register(tracker.store, name, runs[1], "best", "second", {"verdict": "beats"})
        assert len(tracker.store.client.search_model_versions(f"name = '{name}'")) == 2
        version = tracker.store.client.get_model_version_by_alias(name, "best")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.store.uri)
        files = mlflow.artifacts.download_artifacts(address, tracking_uri=tracker.store.uri)
    assert address == "models:/it-s--a-study@best"
    assert "count: 8" in (Path(files) / "schedule.yaml").read_text()
    assert version.tags["curriculum_ray.verdict"] == "beats"
