"""What a command says while it waits for runs that it asked to stop, and of those that are late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.distributed import stops
from curriculum_ray.distributed.stops import await_stop
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Job
from curriculum_ray.training import checkpoint as checkpoints
from tests.buckets.places import bucket_in_memory, failing
from tests.distributed.jobs import as_job

WAITING = "waiting up to 100 s for checkpoints, which are written at log lines; Ctrl-C ends at once"


def _late(jobs: list[Job], stop_after: float, waited: list[float]) -> Callable[[float], list[Job]]:
    """Jobs that all stop after so many seconds, without the wait."""

    def late(seconds: float) -> list[Job]:
        waited.append(seconds)
        return [] if sum(waited) >= stop_after else jobs

    return late


def _write(folder: Path, key: str, images: int) -> Path:
    path = folder / checkpoints.checkpoint_name(key, images)
    return checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={}))


@pytest.mark.parametrize(("stop_after", "lines"), [(1.0, []), (60.0, [WAITING])])
def test_runs_that_stop_in_time_are_not_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stop_after: float, lines: list[str]
) -> None:
    await_stop(_late([as_job(tmp_path, "a", RunConfig())], stop_after, []), [tmp_path])
    assert caplog.messages == lines


def test_a_late_run_is_named_with_the_newest_checkpoint_of_any_of_its_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [as_job(tmp_path, key, RunConfig()) for key in "abc"]
    jobs[1] = replace(jobs[1], resume_from=(tmp_path / "slot-7",))
    for folder, key, images in (("slot-0", "a", 6_400), ("slot-1", "a", 12_800), ("slot-7", "b", 640)):
        _write(tmp_path / folder, key, images)
    waited: list[float] = []
    await_stop(_late(jobs, 1_000.0, waited), (tmp_path / name for name in ("slot-0", "slot-1")))
    assert waited == [2.0, 98.0]
    assert caplog.messages == [
        WAITING,
        "a did not stop in time: it resumes from its checkpoint after 12,800 images",
        "b did not stop in time: it resumes from its checkpoint after 640 images",
        "c did not stop in time: it has no checkpoint, and begins again",
    ]


def test_ctrl_c_ends_the_wait_and_the_late_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late, waited = as_job(tmp_path, "a", RunConfig()), []

    def interrupted(seconds: float) -> list[Job]:
        waited.append(seconds)
        if seconds > stops._QUIET_S:
            raise KeyboardInterrupt
        return [late]

    with pytest.raises(KeyboardInterrupt):
        await_stop(interrupted, [tmp_path])
    assert waited == [2.0, 98.0, 0.0]
    assert caplog.messages == [WAITING, "a did not stop in time: it has no checkpoint, and begins again"]


def test_a_bucket_is_not_asked_where_a_late_run_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    failing(monkeypatch, lambda kind, path: not asked.append(kind))
    job = replace(as_job(tmp_path, "a", RunConfig()), copy=WorkingCopy(tmp_path, bucket_in_memory()))
    await_stop(_late([job], 1_000.0, []), [tmp_path / "slot-0"])
    assert caplog.messages[-1].startswith(
        "a did not stop in time: it resumes from its last whole checkpoint in memory://"
    )
    assert asked == []
