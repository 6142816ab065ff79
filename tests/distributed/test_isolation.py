"""Isolated slots: every job gets fresh worker processes, and still survives their deaths."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum_ray.distributed import slots
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tests.distributed.jobs import as_job


class FakeBoard:
    """A board that stays open for some more jobs."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.failed = jobs, ""
        self.served = 0
        self.left: list[int] = []
        self.wait_for_job = SimpleNamespace(remote=self._wait_for_job)
        self.fail_all = SimpleNamespace(remote=self._fail_all)
        self.taken = SimpleNamespace(remote=lambda slots: self.served)
        self.leave_room = SimpleNamespace(remote=self.left.append)

    def _wait_for_job(self, slot: int) -> bool | None:
        assert slot == 0
        self.jobs -= 1
        return True if self.jobs > 0 else None

    def _fail_all(self, reason: str) -> None:
        self.failed = reason


def _serve(board: FakeBoard, fit: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Run one isolated slot to its end; returns, for each trainer that it made, whether it was isolated."""
    made: list[bool] = []

    def torch_trainer(
        board: Any, slot: int, folders: list[Path], resources: ResourceSpec, *others: Any
    ) -> Any:
        made.append(resources.isolate)
        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(slots, "torch_trainer", torch_trainer)
    monkeypatch.setattr("ray.get", lambda value: value)
    running = Slots(board, [Path("slot-0")], ResourceSpec(isolate=True))
    for thread in running._threads:
        thread.join(10)
        assert not thread.is_alive()
    return made


def test_a_slot_starts_a_trainer_for_each_job_until_the_board_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    board = FakeBoard(3)
    assert _serve(board, lambda: None, monkeypatch) == [True] * 3
    assert board.failed == "its slot ended"


def test_a_slot_without_a_job_asks_again_and_starts_no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True, False, None]
    board: Any = FakeBoard(0)
    board.wait_for_job = SimpleNamespace(remote=lambda slot: answers.pop(0))
    assert _serve(board, lambda: None, monkeypatch) == [True] * 2
    assert not answers


def test_a_slot_whose_controller_is_lost_starts_another_without_waiting_for_a_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.exceptions import ActorDiedError

    ends: list[Exception | None] = [ActorDiedError(), ActorDiedError(), None]

    def fit() -> None:
        if (end := ends.pop(0)) is not None:
            raise end

    board = FakeBoard(1)
    assert len(_serve(board, fit, monkeypatch)) == 3
    assert (board.jobs, board.failed) == (0, "its slot ended")


def test_a_slot_that_cannot_go_on_starts_no_further_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit() -> None:
        raise RuntimeError("no worker starts")

    board = FakeBoard(3)
    assert len(_serve(board, fit, monkeypatch)) == 1
    assert "no worker starts" in board.failed


def test_a_slot_whose_trainer_fails_starts_another_as_long_as_jobs_were_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray gives a trainer up after a number of failures that success does not reset."""
    takes = [3, 1, 0]

    def fit() -> None:
        board.served += takes.pop(0)
        raise RuntimeError("101 workers failed")

    board = FakeBoard(1)
    assert len(_serve(board, fit, monkeypatch)) == 3
    assert board.failed == "its slot could not go on: RuntimeError: 101 workers failed"
    assert board.left == [0, 0, 0], "the room of the workers that have gone is forgotten"


def test_a_slot_that_cannot_go_on_leaves_its_jobs_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[list[int]] = []
    waiting = threading.Event()

    def torch_trainer(board: Any, slot: int, *others: Any) -> Any:
        if slot == 0:
            raise OSError("No space left on device")
        return SimpleNamespace(fit=lambda: waiting.wait(10))

    def leave(slots: list[int]) -> None:
        left.append(slots)
        waiting.set()

    board: Any = FakeBoard(1)
    board.leave = SimpleNamespace(remote=leave)
    monkeypatch.setattr(slots, "torch_trainer", torch_trainer)
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr(board, "wait_for_job", SimpleNamespace(remote=lambda slot: None))
    running = Slots(board, [Path("slot-0"), Path("slot-1")], ResourceSpec(isolate=True))
    for thread in running._threads:
        thread.join(10)
    assert left == [[0]]
    assert board.failed == "its slot ended"


@pytest.mark.parametrize(("isolate", "jobs"), [(False, None), (True, 1)])
def test_the_workers_of_an_isolated_slot_serve_one_job(
    isolate: bool, jobs: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    trainer = "curriculum_ray.distributed.light_trainer.LightTrainer"
    monkeypatch.setattr(trainer, lambda board, slot, node, loop, **options: given.update(options))
    slots.torch_trainer(None, 0, [tmp_path / "slot-0"], ResourceSpec(isolate=isolate))
    assert given["train_loop_config"]["jobs"] == jobs


@pytest.fixture(scope="module")
def board(ray_of_two: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A board served by one isolated slot of one worker."""
    board = create_board()
    folder = tmp_path_factory.mktemp("isolated") / "slot-0"
    running = Slots(board, [folder], ResourceSpec(isolate=True))
    yield board
    running.close()


def _finish(board: Any, folder: Path, key: str, **network: Any) -> tuple[RunResult, set[str]]:
    """The result of a run, and the processes that it lived in."""
    import ray

    model = {
        "kind": "python",
        "path": "witness.Witness",
        "config": {"folder": str(folder / f"{key}-processes"), **network},
    }
    config = RunConfig.model_validate(
        {
            "evaluation": None,
            "batch_size": 16,
            "images": 16 * 40,
            "log_every_images": 64,
            "checkpoint": {"every_images": 64},
            "model": model,
        }
    )
    ray.get(board.submit.remote(as_job(folder, key, config)))
    end = time.monotonic() + 120
    while (status := ray.get(board.status.remote())[key]).state in ("queued", "running"):
        assert time.monotonic() < end, status
        time.sleep(0.2)
    assert status.state == "finished", status
    events = ray.get(board.events.remote(key, 0, 1.0))
    processes = {path.name for path in (folder / f"{key}-processes").iterdir()}
    return events[-1].result, processes


@pytest.fixture(scope="module")
def watched(ray_of_two: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A board served by one slot of one worker that may keep 100 MiB."""
    board = create_board()
    folder = tmp_path_factory.mktemp("watched") / "slot-0"
    running = Slots(board, [folder], ResourceSpec(leak_gib=0.1))
    yield board
    running.close()


@pytest.mark.slow
def test_a_worker_in_which_runs_leave_memory_is_replaced(watched: Any, tmp_path: Path) -> None:
    lived = [
        _finish(watched, tmp_path, f"run{place}", leaks=leaks)[1]
        for place, leaks in enumerate((200, 0, 200, 0, 0))
    ]
    assert [len(processes) for processes in lived] == [1] * 5
    # What the first leaves is the measure of those that follow.
    assert lived[0] == lived[1] == lived[2]
    assert lived[2] != lived[3]
    assert lived[3] == lived[4]


@pytest.mark.slow
def test_two_trials_share_no_process_and_a_crash_costs_one_more(board: Any, tmp_path: Path) -> None:
    _, first = _finish(board, tmp_path, "first")
    crashed, second = _finish(board, tmp_path, "second", crashes=1, after=20)
    assert (len(first), len(second)) == (1, 2)
    assert not first & second
    assert crashed.resumed_at > 0
