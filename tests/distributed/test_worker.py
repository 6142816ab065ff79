"""What a worker tells the board of a run that raised an error: that it failed, or that it must be tried again."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed
from ray.exceptions import ActorDiedError, ActorUnschedulableError, NodeDiedError, RayTaskError

from curriculum_ray.buckets.store import BucketError, TakenOver
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed import worker
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Failed, Job
from curriculum_ray.training.exchange import StoreExchange
from curriculum_ray.training.world import World
from tests.distributed.jobs import as_job, progress


class Board:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.deaths: list[str] = []
        self.failures: list[str] = []
        self.record_death = SimpleNamespace(remote=lambda key, reason: self.deaths.append(reason))
        self.end = SimpleNamespace(remote=self._end)

    def _end(self, key: str, event: Any) -> None:
        assert isinstance(event, Failed)
        self.failures.append(event.reason)


def _in_other_words(error: Exception) -> Exception:
    """As the data are said to be unreadable where their bucket does not answer."""
    try:
        try:
            raise error
        except OSError:
            raise ConfigError(f"data.name: {error}") from None
    except ConfigError as said:
        return said


def _served(error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Board, bool]:
    """The board after a run of one process raised `error`, and whether the worker ended with it."""

    def run(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker, "run_job", run)
    monkeypatch.setattr("ray.get", lambda found: found)
    board, job = Board(), as_job(folder, "a", RunConfig()).assigned(folder)
    try:
        worker._serve_one(board, job, World(), worker.announce_nothing, lambda: False)
    except type(error):
        return board, True
    return board, False


@pytest.mark.parametrize(
    "error",
    [
        ActorUnschedulableError(
            "The node specified via NodeAffinitySchedulingStrategy doesn't exist any more"
        ),
        ActorDiedError(),
        NodeDiedError("a node was lost"),
        RayTaskError("read", "", ActorDiedError()),
        BucketError("s3://bucket/a was not written: its server does not answer", ""),
        OSError(errno.ESTALE, "Stale file handle"),
        RayTaskError("read", "", OSError(errno.EIO, "Input/output error")),
        _in_other_words(BucketError("s3://bucket/a was not read: its server does not answer", "")),
        TakenOver("s3://bucket/run was taken over by another worker"),
    ],
)
def test_what_ray_or_storage_lost_is_no_failure_of_the_run_and_new_workers_try_it_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, ended = _served(error, tmp_path, monkeypatch)
    assert (len(board.deaths), board.failures, ended) == (1, [], True)


def test_a_run_on_storage_that_takes_no_traceback_either_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    board, ended = _served(OSError(errno.EIO, "Input/output error"), tmp_path / "file", monkeypatch)
    assert (len(board.deaths), board.failures, ended) == (1, [], True)
    assert "error.txt was not written: Not a directory" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a shard is damaged"),
        RayTaskError("read", "", ValueError("no such column")),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
)
def test_an_error_of_the_run_or_of_a_task_of_it_ends_the_run_and_the_worker_serves_on(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, ended = _served(error, tmp_path, monkeypatch)
    assert (board.deaths, len(board.failures), ended) == ([], 1, False)


@pytest.mark.parametrize("closed", [False, True])
def test_the_first_rank_alone_waits_for_jobs_and_the_others_get_the_same_at_once(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None if closed else [as_job(Path("nowhere"), "a", RunConfig())]
    first = [[], [], found]
    asked: list[tuple[int, ...]] = []
    store = torch.distributed.HashStore()

    def take(*place: int) -> list[Job] | None:
        asked.append(place)
        return first.pop(0) if first else found

    monkeypatch.setattr("ray.get", lambda value: value)
    board = SimpleNamespace(take=SimpleNamespace(remote=take))

    def work(rank: int) -> list[Job] | None:
        world = World(rank=rank, size=3, exchange=StoreExchange(store, rank, 3))
        return worker._take(board, world, 5, 7, 0, 1)

    with ThreadPoolExecutor(3) as pool:
        ranks = [pool.submit(work, rank) for rank in (1, 2)]
        ranks.append(pool.submit(work, 0))
        assert [rank.result() for rank in ranks] == [found] * 3
    assert asked == [(5, 7, 0, 1)] * (3 if closed else 5)
    assert store.add("worked", 0) >= 3 + 3, "the others must not lose patience meanwhile"


@pytest.mark.parametrize(("seconds", "stops_at"), [(1.9, 96), (2.0, 64)])
def test_a_report_that_comes_seldom_waits_for_its_own_answer_and_another_takes_the_previous_one(
    monkeypatch: pytest.MonkeyPatch, seconds: float, stops_at: int
) -> None:
    """The run is asked to stop before it has seen 64 images."""
    now = 0.0
    monkeypatch.setattr("ray.get", lambda found: found)
    monkeypatch.setattr("time.monotonic", lambda: now)
    board = SimpleNamespace(report=SimpleNamespace(remote=lambda key, progress: progress.images >= 64))
    report = worker._Reporter(board, "a")
    answers = {}
    for images in (32, 64, 96, 128):
        now += seconds if images == 64 else 0.1
        answers[images] = report(progress(images))
    assert min(images for images, stop in answers.items() if stop) == stops_at


def test_a_preview_waits_for_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.get", lambda found: found)
    board = SimpleNamespace(report=SimpleNamespace(remote=lambda key, progress: progress.preview is not None))
    report = worker._Reporter(board, "a")
    assert report(progress(32)) is False
    assert report(progress(32).with_preview(32, {"fid": 1.0})) is True


def test_a_slot_whose_bucket_does_not_answer_as_it_starts_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken no job yet: else it would give up, and with it all jobs."""
    errors, calls = [BucketError("s3://bucket/slots was not deleted: 503", "503")], list[str]()

    def fit(*_: Any) -> None:
        if errors:
            raise errors.pop()

    def answer(name: str, value: object) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_: (calls.append(name), value)[1])

    monkeypatch.setattr("ray.get", lambda found: found)
    slots = object.__new__(Slots)
    slots.board = SimpleNamespace(
        taken=answer("taken", 0),
        wait_for_job=answer("wait_for_job", None),
        fail_all=answer("fail_all", None),
    )
    slots._closing, slots._closed, slots._lock = threading.Event(), threading.Event(), threading.Lock()
    slots._alive = 2
    slots.board.leave = answer("leave", None)
    monkeypatch.setattr(slots, "_fit", fit)
    slots._run(0, [tmp_path], ResourceSpec())
    assert calls == ["taken", "wait_for_job", "leave"]
