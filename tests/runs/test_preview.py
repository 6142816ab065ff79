"""Previews that Ray tasks draw: all ranks wait for a slow one, and none is lost with a run that is killed."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed

from curriculum_ray.runs import preview
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.log import LoggedLine
from curriculum_ray.runs.preview import Previews
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.exchange import StoreExchange
from curriculum_ray.training.world import World
from tests.distributed.jobs import SMALL, as_job, run_up_to

CONFIG = RunConfig.model_validate(
    {
        **SMALL,
        "window": 1,
        "images": 192,
        "evaluation": {"num_samples": 64, "steps": 2},
        "preview": {"every_images": 128, "num_samples": 32, "asynchronous": True},
    }
)
SCORED = ({"fid": 1.0}, torch.zeros(4, 1, 8, 8))


def test_ranks_wait_for_a_preview_longer_than_their_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0

    def wait(tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        nonlocal waits
        waits += 1
        time.sleep(0.05)
        return (tasks, []) if waits > 20 else ([], tasks)

    monkeypatch.setattr(preview, "_start", lambda config, model: "task")
    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", lambda task: SCORED)
    store = torch.distributed.HashStore()

    def work(rank: int) -> list[preview.Preview]:
        world = World(rank=rank, size=2, exchange=StoreExchange(store, rank, 2, patience_s=0.5))
        data: Any = None
        trainer: Any = SimpleNamespace(whole_model=lambda ema: None, world=world, images=128)
        previews = Previews(CONFIG, data, tmp_path, "run", rank == 0)
        assert previews.make(trainer, LoggedLine(images=128)) == []
        return previews.await_due(129, world.exchange)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert first == [(LoggedLine(images=128), {"fid": 1.0})]
    assert second == []


def test_the_best_of_a_resumed_run_replaces_that_of_the_attempt_that_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"preview": {"every_images": 64, "num_samples": 32}, "checkpoint": {"best": True}}
    config = RunConfig.model_validate({**CONFIG.model_dump(exclude_unset=True), **changes})
    data: Any = None
    state = checkpoints.Checkpoint(tensors={}, state={})

    def kept(scores: dict[int, float]) -> list[int]:
        """The images of the best checkpoints after a process has made these previews."""
        previews = Previews(config, data, tmp_path, "run", lead=True)
        for images, fid in scores.items():
            monkeypatch.setattr(preview, "_draw", lambda *_, fid=fid: ({"fid": fid}, SCORED[1]))
            trainer: Any = SimpleNamespace(
                whole_model=lambda ema: None,
                process=None,
                conditioning=None,
                world=World(),
                images=images,
                checkpoint=lambda: state,
            )
            previews.make(trainer, LoggedLine(images=images))
        return [int(path.name[-12:]) for path in checkpoints.find_checkpoints(tmp_path / "best")]

    assert kept({64: 3.0, 128: 2.0}) == [128]
    assert kept({64: 2.5}) == [64]
    assert kept({}) == [64]


def test_a_run_that_is_killed_while_it_waits_for_its_last_preview_has_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = itertools.count()
    job = as_job(tmp_path, "run", CONFIG).assigned(tmp_path / "slot")

    def wait(tasks: list[int], timeout: float) -> tuple[list[int], list[int]]:
        if not timeout:
            return [], tasks
        if tasks == [1]:
            raise KeyboardInterrupt
        return tasks, []

    monkeypatch.setattr(preview, "_start", lambda config, model: next(started))
    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", lambda task: SCORED)
    with pytest.raises(KeyboardInterrupt):
        run_up_to(job)
    (last,) = checkpoints.find_checkpoints(job.folder, "run")
    assert checkpoints.read(last).state["images"] == 192
    result, _ = run_up_to(job)
    assert result.resumed_at == 192
    assert [images for images, _ in result.history] == [128, 192]
