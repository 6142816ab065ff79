"""A slot starts where there is room, few at a time, and one that waits for room ends with its study."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from curriculum_ray.distributed import places
from curriculum_ray.distributed.places import WorkerPlaces
from curriculum_ray.distributed.resources import ResourceSpec

PATIENCE_S = 20.0


class FakeBoard:
    """A board whose slots have room once they are let in."""

    def __init__(self) -> None:
        self.in_place = threading.Event()
        self.has_room = SimpleNamespace(remote=lambda slot, timeout_s: self.in_place.wait(0.01))


class FakeClaim:
    """Counts the claims that stand."""

    standing: ClassVar[set[int]] = set()

    def __init__(self, board: Any, slot: int, resources: ResourceSpec) -> None:
        self.slot = slot

    def renew(self) -> None:
        self.standing.add(self.slot)

    def withdraw(self) -> None:
        self.standing.discard(self.slot)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot starts at a time, in a cluster whose only other node has room."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(places, "_AT_ONCE", 1)
    monkeypatch.setattr(places, "_POLL_S", 0.01)
    monkeypatch.setattr(WorkerPlaces, "_with_room", lambda self, claim: "there")
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr(places, "SlotClaim", FakeClaim)
    FakeClaim.standing.clear()


def test_on_one_machine_a_slot_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with WorkerPlaces(None, ResourceSpec(), threading.Event()).place(0) as node:
        assert node is None


def test_the_next_slot_starts_when_the_one_before_is_in_place(at_once: None) -> None:
    board: Any = FakeBoard()
    found = WorkerPlaces(board, ResourceSpec(), threading.Event())
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
    found = WorkerPlaces(board, ResourceSpec(), closing)
    with found.place(0):
        closing.set()
        with found.place(1) as node:
            assert node is None
    assert not FakeClaim.standing


@pytest.mark.parametrize("workers", [1, (1, 2)])
def test_what_a_slot_claims_its_controller_takes_over_if_its_workers_are_a_range(
    at_once: None, workers: int | tuple[int, int]
) -> None:
    board: Any = FakeBoard()
    found = WorkerPlaces(board, ResourceSpec(num_workers=workers), threading.Event())
    with found.place(0):
        assert FakeClaim.standing == ({0} if workers == (1, 2) else set())
    assert not FakeClaim.standing


def test_on_one_machine_all_slots_with_a_range_have_claimed_their_room_before_one_starts(
    at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    with WorkerPlaces(FakeBoard(), ResourceSpec(num_workers=(1, 2)), threading.Event()).place(0) as node:
        assert node is None
        assert FakeClaim.standing == {0}
