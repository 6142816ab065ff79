"""Previews that Ray tasks draw: all ranks wait for a slow one, and none is lost unsaid with a run that is killed."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed

from curriculum_ray.distributed.job import run_job
from curriculum_ray.runs import hooks, preview
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.log import LoggedLine, logged
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


OFTEN = RunConfig.model_validate(
    {
        **CONFIG.model_dump(exclude_unset=True),
        "preview": {"every_images": 64, "num_samples": 32, "asynchronous": True},
        "checkpoint": {"every_images": 192},
    }
)


class Tasks:
    """Ray tasks of previews, each known by the number of its start.

    Those in `slow` are over when somebody has waited for them where `patient`, else never.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, job: Assignment, slow: set[int], patient: bool = False
    ) -> None:
        self._job, self._slow, self._patient = job, slow, patient
        self._started = itertools.count()
        self.saved: list[int] = []
        """How many checkpoints there were whenever somebody waited."""
        monkeypatch.setattr(preview, "_start", lambda config, model: next(self._started))
        monkeypatch.setattr("ray.wait", self._wait)
        monkeypatch.setattr("ray.get", lambda task: SCORED)

    def _wait(self, tasks: list[int], timeout: float) -> tuple[list[int], list[int]]:
        if timeout:
            self.saved.append(len(checkpoints.find_checkpoints(self._job.checkpoints, "run")))
            assert len(self.saved) < 10_000, "it waits for ever"
            if self._patient:
                self._slow.clear()
        over = tasks[0] not in self._slow
        return (tasks, []) if over else ([], tasks)


def _previews_in(folder: Path) -> list[int]:
    return [line.images for line in logged(folder) if line.preview is not None]


def test_a_checkpoint_at_a_warning_waits_for_no_preview_and_the_resumed_run_names_those_that_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = as_job(tmp_path, "run", OFTEN).assigned(tmp_path / "slot")
    tasks = Tasks(monkeypatch, job, slow={0, 1})
    warnings = iter([False, True])

    def lose(path: Path | None, _: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, World(), lambda _: False, lose, lambda: next(warnings))
    assert tasks.saved == [], "nobody has waited"
    (only,) = checkpoints.find_checkpoints(job.checkpoints, "run")
    assert checkpoints.read(only).state["images"] == 128
    Tasks(monkeypatch, job, slow=set())
    result, _ = run_up_to(job)
    assert result.resumed_at == 128
    assert [images for images, _ in result.history] == _previews_in(job.folder) == [128, 192]
    said = [line for line in caplog.messages if "there is no preview" in line]
    assert [line.partition(":")[0] for line in said] == ["there is no preview after 64 images"]


def test_after_a_warning_training_goes_on_and_the_next_checkpoint_waits_for_all_earlier_previews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = OFTEN.model_copy(update={"images": 256})
    job = as_job(tmp_path, "run", config).assigned(tmp_path / "slot")
    tasks = Tasks(monkeypatch, job, slow={0, 1}, patient=True)
    warnings = iter([False, True, False])
    result = run_job(job, World(), lambda _: False, lambda path, _: None, lambda: next(warnings))
    assert result is not None
    assert [images for images, _ in result.history] == _previews_in(job.folder) == [64, 128, 192, 256]
    assert tasks.saved[0] == 1, "the checkpoint after 192 images is not written yet"
    assert "preview after" not in caplog.text


@pytest.mark.parametrize("patient", [True, False])
def test_a_run_that_stops_writes_its_checkpoint_and_then_waits_a_little_for_previews(
    patient: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "_GRACE_S", 60.0 if patient else 0.01)
    job = as_job(tmp_path, "run", OFTEN).assigned(tmp_path / "slot")
    tasks = Tasks(monkeypatch, job, slow={0}, patient=patient)
    assert run_job(job, World(), lambda report: report.images >= 128, lambda path, _: None) is None
    assert set(tasks.saved) == {1}
    (only,) = checkpoints.find_checkpoints(job.checkpoints, "run")
    assert checkpoints.read(only).state["images"] == 128
    lost = [line.partition(" is lost")[0] for line in caplog.messages if "is lost: the run stops" in line]
    assert lost == ([] if patient else ["the preview after 64 images"])
    assert _previews_in(job.folder) == ([64, 128] if patient else [])
