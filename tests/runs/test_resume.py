"""All ranks of a run go on from the checkpoint that rank 0 has found, or none does."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import ConfigError
from curriculum_ray.runs import resume as resumes
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.resume import resume
from curriculum_ray.runs.run_copy import RunCopy
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import Checkpoint
from curriculum_ray.training.exchange import Alone
from curriculum_ray.training.world import World
from tests.buckets.places import bucket_in_memory
from tests.distributed.jobs import as_job


class _Told(Alone):
    """What rank 0 has told is there for the others, which run after it."""

    def __init__(self) -> None:
        self.told: bytes | None = None

    def tell(self, value: bytes) -> bytes:
        self.told = value if self.told is None else self.told
        return self.told


class _Run:
    """A run of two ranks, as far as it resumes."""

    def __init__(self, folder: Path) -> None:
        self.job: Assignment = as_job(folder, "run", RunConfig()).assigned(folder / "slot")
        self._exchange = _Told()

    def write(self, images: int, **state: Any) -> Path:
        path = self.job.checkpoints / checkpoints.checkpoint_name("run", images)
        return checkpoints.write(path, Checkpoint(tensors={}, state={"images": images, **state}))

    def resumed(self, rank: int, copy: RunCopy | None = None) -> int:
        """The images from which a rank goes on; rank 0 comes first."""

        def restore(checkpoint: Checkpoint) -> None:
            trainer.images = checkpoint.state["images"]

        world = World(rank=rank, size=2, exchange=self._exchange)
        trainer: Any = SimpleNamespace(world=world, images=0, restore=restore)
        return resume(trainer, self.job, copy)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Run:
    monkeypatch.setattr(resumes, "_PAUSES_S", (0.0, 0.0))
    return _Run(tmp_path)


def _late(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The newest checkpoint cannot be seen so many times."""
    left, read = times, checkpoints.read

    def seen(path: Path) -> Checkpoint:
        nonlocal left
        if path.name.endswith("960") and left:
            left -= 1
            raise ConfigError(f"checkpoint {path} does not exist")
        return read(path)

    monkeypatch.setattr(checkpoints, "read", seen)


def test_a_rank_that_sees_the_newest_checkpoint_late_waits_for_it(
    run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(640)
    run.write(960)
    assert run.resumed(0) == 960
    _late(monkeypatch, 2)
    assert run.resumed(1) == 960


def test_a_rank_that_does_not_see_it_ends_the_attempt_instead_of_going_on_from_another(
    run: _Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write(640)
    run.write(960)
    assert run.resumed(0) == 960
    _late(monkeypatch, 3)
    with pytest.raises(RuntimeError, match=r"rank 1 cannot resume from .*960, as rank 0 does: .* not exist"):
        run.resumed(1)


def test_what_is_written_after_rank_0_has_looked_is_not_taken(run: _Run) -> None:
    """Workers of an earlier attempt may still be writing."""
    run.write(640)
    assert run.resumed(0) == 640
    run.write(960)
    assert run.resumed(1) == 640
    run.write(640, again=True)
    with pytest.raises(RuntimeError, match=r"what it finds at .*640 is another one"):
        run.resumed(1)


def test_all_start_anew_where_rank_0_finds_nothing(run: _Run) -> None:
    assert run.resumed(0) == 0
    run.write(640)
    assert run.resumed(1) == 0


def test_a_checkpoint_that_a_killed_writer_had_set_aside_is_taken(run: _Run) -> None:
    run.write(640)
    newest = run.write(960)
    os.rename(newest, newest.with_name(f".{newest.name}.7.old.tmp"))
    assert (run.resumed(0), run.resumed(1)) == (960, 960)


def test_ranks_on_other_nodes_take_the_same_one_from_the_bucket(run: _Run, tmp_path: Path) -> None:
    bucket = bucket_in_memory()

    def copy_on(machine: str, lead: bool) -> RunCopy:
        place = WorkingCopy(tmp_path / machine, bucket)
        job = replace(as_job(place.folder, "run", RunConfig()), copy=place).assigned(place.folder / "slot")
        return RunCopy(job, place, 2, lead)

    def upload(images: int) -> None:
        stored_checkpoints.send(run.write(images), bucket / "slot")

    upload(640)
    upload(960)
    assert run.resumed(0, copy_on("one", lead=True)) == 960
    assert run.resumed(1, copy_on("two", lead=False)) == 960
    upload(1280)
    with pytest.raises(RuntimeError, match=r"1280 is another one"):
        run.resumed(1, copy_on("two", lead=False))
