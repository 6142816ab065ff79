"""A trial's actor: what it asks of the board, and what it must not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tuning.search.ray_tune.board_trial import BoardTrial


class Board:
    """A board that has one event for every job, and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.submit = SimpleNamespace(remote=lambda job: self.asked.append(("submit", job["key"])))
        self.cancel = SimpleNamespace(remote=lambda key: self.asked.append(("cancel", key)))
        event = {"kind": "progress", "images": 64, "loss": 0.5, "stage": 0, "num_stages": 1}
        self.events = SimpleNamespace(remote=lambda key, after, timeout: [event])


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board()
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.get_actor", lambda name, namespace: board)
    return board


def _actor(key: str) -> Any:
    actor = BoardTrial.__new__(BoardTrial)
    actor.setup({"board": "board", "job": {"key": key}})
    return actor


def test_an_actor_that_is_dropped_before_its_first_step_does_not_stop_the_run_of_another(
    board: Board,
) -> None:
    dropped, kept = _actor("search-000"), _actor("control-uniform")
    assert kept.reset_config({"board": "board", "job": {"key": "search-000"}})
    assert kept.step()["images"] == 64
    dropped.cleanup()
    assert board.asked == [("submit", "search-000")]


def test_an_actor_stops_the_run_that_it_submitted(board: Board) -> None:
    actor = _actor("search-000")
    actor.step()
    actor.cleanup()
    assert board.asked == [("submit", "search-000"), ("cancel", "search-000")]
