"""A slot starts where there is room, few at a time, and one that waits for room ends with its study."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum_ray.distributed import places
from curriculum_ray.distributed.places import Places

PATIENCE_S = 20.0


class FakeBoard:
    """A board whose slots have room once they are let in."""

    def __init__(self) -> None:
        self.in_place = threading.Event()
        self.has_room = SimpleNamespace(remote=lambda slot, timeout_s: self.in_place.wait(0.01))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot starts at a time, in a cluster whose only other node has room."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(places, "_AT_ONCE", 1)
    monkeypatch.setattr(places, "_POLL_S", 0.01)
    monkeypatch.setattr(Places, "_with_room", lambda self: "there")
    monkeypatch.setattr("ray.get", lambda value: value)


def test_on_one_machine_a_slot_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with Places(None, [{"CPU": 1.0}], threading.Event()).place(0) as node:
        assert node is None


def test_the_next_slot_starts_when_the_one_before_is_in_place(at_once: None) -> None:
    board: Any = FakeBoard()
    found = Places(board, [{"CPU": 1.0}], threading.Event())
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with found.place(1) as node:
            assert node == "there"
            entered.set()
            leave.wait(PATIENCE_S)

    with found.place(0) as node:
        assert node == "there"
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.1)
        board.in_place.set()
        assert entered.wait(PATIENCE_S), "the first still runs"
    leave.set()
    thread.join(PATIENCE_S)
    with found.place(2) as node:
        assert node == "there", "whoever ends has given its turn back once"


def test_a_slot_that_waits_for_its_turn_ends_with_the_study(at_once: None) -> None:
    board: Any = FakeBoard()
    closing = threading.Event()
    found = Places(board, [{"CPU": 1.0}], closing)
    with found.place(0):
        closing.set()
        with found.place(1) as node:
            assert node is None
