"""A trial's actor: what it asks of the board, and what it must not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Event, Failed, Finished, Started, Stopped
from tests.distributed.jobs import as_job, progress
from tests.tuning.studies import result as run_result
from tuning.search.ray_tune.board_trial import BoardTrial


class Board:
    """A board that has the same news of every job, and notes what is asked of it."""

    def __init__(self) -> None:
        self.news: list[Event] = [progress(64)]
        self.asked: list[tuple[str, str]] = []
        self.submit = SimpleNamespace(remote=lambda job: self.asked.append(("submit", job.key)))
        self.cancel = SimpleNamespace(remote=lambda key: self.asked.append(("cancel", key)))
        self.events = SimpleNamespace(remote=lambda key, after, timeout: self.news)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board()
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.get_actor", lambda name, namespace: board)
    return board


def _actor(key: str) -> Any:
    actor = BoardTrial.__new__(BoardTrial)
    actor.setup(_config(key))
    return actor


def _config(key: str) -> dict[str, Any]:
    return {"board": "board", "job": as_job(Path("nowhere"), key, RunConfig())}


def test_an_actor_that_is_dropped_before_its_first_step_does_not_stop_the_run_of_another(
    board: Board,
) -> None:
    dropped, kept = _actor("search-000"), _actor("control-uniform")
    assert kept.reset_config(_config("search-000"))
    assert kept.step()["images"] == 64
    dropped.cleanup()
    assert board.asked == [("submit", "search-000")]


def test_an_actor_stops_the_run_that_it_submitted(board: Board) -> None:
    actor = _actor("search-000")
    actor.step()
    actor.cleanup()
    assert board.asked == [("submit", "search-000"), ("cancel", "search-000")]


@pytest.mark.parametrize(
    ("last", "outcome"), [(Failed(reason="NonFiniteLoss: at 64 images"), "failed"), (Stopped(), "stopped")]
)
def test_a_run_that_failed_or_was_stopped_ends_its_trial_without_an_error_or_a_score(
    board: Board, last: Event, outcome: str
) -> None:
    board.news = [Started(attempt=2), progress(64), last]
    result = _actor("search-000").step()
    assert (result["done"], result["outcome"]) == (True, outcome)
    assert (result["images"], result["attempt"]) == (64, 2)
    assert not {"fid", "result"} & result.keys()


def test_a_finished_run_ends_its_trial_with_its_metrics_and_its_result_as_text(board: Board) -> None:
    found = run_result(7.5)
    board.news = [progress(64), Finished(result=found)]
    result = _actor("search-000").step()
    assert (result["done"], result["outcome"], result["fid"]) == (True, "finished", 7.5)
    assert json.loads(result["result"]) == found.to_json()
