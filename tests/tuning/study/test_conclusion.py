"""What a study's run in MLflow says of its answer: the numbers of fresh seeds where there are some, and a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tuning.studies import EXPERIMENT, UNIFORM, fresh, record, trials
from tuning.evidence.arms import Ranking
from tuning.evidence.winner import choose
from tuning.study.conclusion import conclude, metrics_of, note_of, table_of
from tuning.tracking import Tracker

SEARCH = [*trials(8), record(9.0, **UNIFORM)]
CONFIRMED = [*SEARCH, *fresh((6.0, 6.2, 6.1), 8), *fresh((9.0, 9.3, 9.1), 1)]


def _metrics(records: list) -> dict[str, float]:
    ranking = Ranking.of(records, "fid")
    choice = choose(ranking)
    assert choice is not None
    return metrics_of(ranking, choice.curriculum)


def test_an_answer_has_the_numbers_of_fresh_seeds_and_the_interval() -> None:
    found = _metrics(CONFIRMED)
    assert found["fresh_best_fid"] == pytest.approx(6.1)
    assert found["fresh_uniform_fid"] == pytest.approx(27.4 / 3)
    assert found["fresh_seeds"] == 3
    assert set(found) == {
        *(
            f"fresh_{arm}_{metric}"
            for arm in ("best", "uniform")
            for metric in ("fid", "kid", "precision", "recall")
        ),
        *("fresh_seeds", "gain_percent", "gain_percent_low", "gain_percent_high"),
    }, "no pair of training losses, which are each of its run's own noise levels"
    assert 0 < found["gain_percent_low"] < found["gain_percent"] < found["gain_percent_high"]
    assert not [name for name in found if name.startswith("search_")]


def test_numbers_of_the_search_are_named_as_such_and_have_no_interval() -> None:
    found = _metrics(SEARCH)
    assert (found["search_best_fid"], found["search_uniform_fid"]) == (8.0, 9.0)
    assert not [name for name in found if name.startswith(("fresh_", "gain_"))]


def test_the_note_begins_with_the_answer_and_lists_the_arms() -> None:
    first, _, *table = note_of(Ranking.of(CONFIRMED, "fid")).strip().split("\n")
    assert first.startswith("**")
    assert "beats uniform sampling" in first
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 2


def test_a_trial_without_a_result_has_its_row() -> None:
    found = table_of([*SEARCH, record(None, key="search-009", reason="out of memory", trial=9)])
    assert len(found["data"]) == 3
    last = dict(zip(found["columns"], found["data"][-1], strict=True))
    assert (last["status"], last["fid"], last["reason"]) == ("failed", None, "out of memory")


def test_a_study_stores_its_answer_report_and_table(output: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html>")
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.study("a", {}, {})
        for records in (SEARCH, CONFIRMED):  # as a study that goes on
            conclude(tracker, run, Ranking.of(records, "fid"), report)
        assert tracker.flush()
        stored = tracker.store.client.get_run(tracker.run_id(run)).data
        files = {file.path for file in tracker.store.client.list_artifacts(tracker.run_id(run))}
        steps = [p.step for p in tracker.store.client.get_metric_history(tracker.run_id(run), "gain_percent")]
    assert not tracker.problems
    assert files == {"report.html", "table.json"}
    assert stored.metrics["fresh_best_fid"] == pytest.approx(6.1)
    assert stored.tags["curriculum_ray.answer"] in stored.tags["mlflow.note.content"]
    assert json.loads(stored.tags["mlflow.loggedArtifacts"]) == [{"path": "table.json", "type": "table"}]
    assert steps == [len(CONFIRMED)]
