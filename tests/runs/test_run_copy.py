"""A run whose results go to a bucket: it resumes anywhere, and uploads that fail cost no more than they hold."""

from __future__ import annotations

import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError, TakenOver
from curriculum_ray.runs import run_copy, stored_checkpoints
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.log import lines_of
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from tests.buckets.places import bucket_in_memory, failing
from tests.distributed.jobs import as_job, run_up_to

SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "data": {"name": "mixture2d"},
    "model": {"kind": "mlp"},
    "batch_size": 16,
    "images": 16 * 24,
    "window": 2,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64, "keep": 2},
    "schedule": {
        "version": 1,
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 2},
    },
}
CONFIG = RunConfig.model_validate(SETTINGS)


def _job(machine: Path, bucket: Bucket) -> Assignment:
    copy = WorkingCopy(machine, bucket)
    return replace(as_job(machine, "run", CONFIG), copy=copy).assigned(machine / "run")


def _weights(bucket: Bucket, place: Path) -> dict[str, torch.Tensor]:
    copy = WorkingCopy(place, bucket)
    found = stored_checkpoints.newest(copy, [place / "run"], "run")
    assert found is not None
    return dict(found[1].tensors["model"])


@pytest.fixture
def undisturbed(tmp_path: Path) -> RunResult:
    """The result of the run in a folder."""
    result, _ = run_up_to(as_job(tmp_path / "folder", "run", CONFIG).assigned(tmp_path / "folder" / "run"))
    assert isinstance(result, RunResult)
    return result


def _dies_after(images: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends once the checkpoint of so many images is in the bucket; each is before the next is made."""
    usual = run_copy.RunCopy.checkpoint

    def checkpoint(self: run_copy.RunCopy, path: Path) -> None:
        usual(self, path)
        self.flush()
        if int(path.name[-12:]) >= images:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_copy.RunCopy, "checkpoint", checkpoint)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_run_goes_on_to_the_same_weights_here_and_on_a_fresh_machine(
    fresh: bool, undisturbed: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, machine = bucket_in_memory(), tmp_path / "one"
    with monkeypatch.context() as patched:
        _dies_after(128, patched)
        with pytest.raises(KeyboardInterrupt):
            run_up_to(_job(machine, bucket))
    if fresh:
        shutil.rmtree(machine)
        machine = tmp_path / "two"
    result, _ = run_up_to(_job(machine, bucket))
    assert result.resumed_at == 128
    assert result.checkpoint == f"{bucket.shown()}/run/checkpoint-run-{result.images:012d}"
    found = _weights(bucket, tmp_path / "three")
    theirs = checkpoints.read(undisturbed.checkpoint).tensors["model"]
    assert all(torch.equal(value, theirs[name]) for name, value in found.items())
    there = bucket / "run"
    assert RunResult.model_validate_json(there.read("result.json") or b"") == result
    lines = lines_of((there.read("metrics.jsonl") or b"").decode())
    assert [line.images for line in lines] == list(range(32, 16 * 24 + 1, 32))
    assert len(stored_checkpoints.stored(there)) == 2
    assert not checkpoints.find_checkpoints(machine / "run"), "checkpoints are left on the machine"


def test_a_checkpoint_that_cannot_be_uploaded_costs_that_checkpoint_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = bucket_in_memory()
    failing(monkeypatch, lambda kind, path: kind == "write" and "0128/" in path)
    with monkeypatch.context() as patched:
        _dies_after(192, patched)
        with pytest.raises(KeyboardInterrupt):
            run_up_to(_job(tmp_path / "one", bucket))
    assert "0128/" in caplog.text
    assert [int(name[-12:]) for name in stored_checkpoints.stored(bucket / "run")] == [192, 64]
    result, _ = run_up_to(_job(tmp_path / "two", bucket))
    assert result.resumed_at == 192


def test_no_checkpoint_is_in_the_bucket_before_the_log_that_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_in_memory()
    away = {"away": False}
    failing(
        monkeypatch, lambda kind, path: kind == "write" and path.endswith("metrics.jsonl") and away["away"]
    )
    usual = run_copy.RunCopy.checkpoint

    def checkpoint(self: run_copy.RunCopy, path: Path) -> None:
        images = int(path.name[-12:])
        away["away"] = images == 128
        usual(self, path)
        self.flush()
        stored = [int(name[-12:]) for name in stored_checkpoints.stored(bucket / "run")]
        content = (bucket / "run").read("metrics.jsonl")
        assert content is not None
        logged = [line.images for line in lines_of(content.decode())]
        assert max(logged) >= max(stored), (logged, stored)
        seen.append(max(stored))
        away["away"] = False
        if images >= 192:
            raise KeyboardInterrupt

    seen: list[int] = []
    monkeypatch.setattr(run_copy.RunCopy, "checkpoint", checkpoint)
    with pytest.raises(KeyboardInterrupt):
        run_up_to(_job(tmp_path / "one", bucket))
    assert seen == [64, 64, 192]


def test_a_run_whose_last_checkpoint_is_not_taken_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_in_memory()
    with monkeypatch.context() as patched:
        failing(patched, lambda kind, path: kind == "write" and "0384/" in path)
        _dies_after(math.inf, patched)
        with pytest.raises(BucketError, match=r"0384/.* was not written"):
            run_up_to(_job(tmp_path, bucket))
    assert (bucket / "run").read("result.json") is None
    assert not (tmp_path / "run" / "result.json").exists()
    result, _ = run_up_to(_job(tmp_path, bucket))
    assert result.resumed_at == 320


def test_of_checkpoints_that_come_faster_than_they_are_uploaded_the_newest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, go, sent = bucket_in_memory(), threading.Event(), []
    job = _job(tmp_path, bucket)

    def send(path: Path, folder: Bucket) -> None:
        sent.append(path.name)
        go.wait(20)

    monkeypatch.setattr(stored_checkpoints, "send", send)
    copy = run_copy.RunCopy(job, WorkingCopy(tmp_path, bucket), 2, lead=True)
    try:
        paths = [tmp_path / "run" / checkpoints.checkpoint_name("run", images) for images in (64, 128, 192)]
        for path in paths:
            checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={}))
            copy.checkpoint(path)
            while not sent:
                pass
        go.set()
        copy.flush()
    finally:
        copy.close()
    assert sent == [paths[0].name, paths[2].name]
    assert checkpoints.find_checkpoints(tmp_path / "run") == [paths[2]]


def _contents(bucket: Bucket) -> dict[str, bytes | None]:
    return {name: bucket.read(name) for name in bucket.sizes()}


@pytest.mark.parametrize("waiting", [True, False])
def test_a_worker_that_was_cut_off_while_another_took_its_run_changes_nothing(
    waiting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither where it wakes before an upload nor where one was under way and is tried again."""
    bucket, after = bucket_in_memory(), dict[str, bytes | None]()
    machines = [tmp_path / "one", tmp_path / "two"]
    jobs = [_job(machine, bucket) for machine in machines]

    def write(machine: Path, images: int, by: str) -> Path:
        (machine / "run" / "metrics.jsonl").write_text(by)
        path = machine / "run" / checkpoints.checkpoint_name("run", images)
        return checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={"by": by}))

    def taken_over() -> None:
        other = run_copy.RunCopy(jobs[1], WorkingCopy(machines[1], bucket), 1, lead=True)
        other.checkpoint(write(machines[1], 128, "another"))
        other.flush()
        other.close()
        after.update(_contents(bucket))

    def cut_off(kind: str, path: str) -> bool:
        if after or kind != "write" or not path.endswith("metrics.jsonl"):
            return False
        after["while it is under way"] = None
        taken_over()
        del after["while it is under way"]
        return True

    copy = run_copy.RunCopy(jobs[0], WorkingCopy(machines[0], bucket), 1, lead=True)
    try:
        copy.checkpoint(write(machines[0], 64, "this one"))
        copy.flush()
        if waiting:
            taken_over()
        else:
            failing(monkeypatch, cut_off)
        copy.changed()
        for images in (128, 192):
            copy.checkpoint(write(machines[0], images, "this one, later"))
            copy.flush()
        final = write(machines[0], 256, "this one, at its end")
        with pytest.raises(TakenOver, match="runs/run was taken over by another worker"):
            copy.send_final(final)
        with pytest.raises(TakenOver):
            copy.finish(final)
    finally:
        copy.close()
    assert after
    assert _contents(bucket) == after
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"{bucket.shown('run')} was taken over by another worker: nothing more is uploaded from here"
    ]


def test_an_upload_that_fails_in_an_unknown_way_leaves_a_thread_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bucket, errors = bucket_in_memory(), [RuntimeError("of an unknown kind")]
    usual = stored_checkpoints.send

    def send(path: Path, folder: Bucket) -> None:
        if errors:
            raise errors.pop()
        usual(path, folder)

    monkeypatch.setattr(stored_checkpoints, "send", send)
    copy = run_copy.RunCopy(_job(tmp_path, bucket), WorkingCopy(tmp_path, bucket), 2, lead=True)
    try:
        for images in (64, 128):
            path = tmp_path / "run" / checkpoints.checkpoint_name("run", images)
            copy.checkpoint(checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={})))
            flushing = threading.Thread(target=copy.flush, daemon=True)
            flushing.start()
            flushing.join(20)
            assert not flushing.is_alive(), "nothing uploads any more"
    finally:
        copy.close()
    assert "of an unknown kind" in caplog.text
    assert [int(name[-12:]) for name in stored_checkpoints.stored(bucket / "run")] == [128]


def test_of_checkpoints_that_no_upload_takes_this_machine_keeps_no_more_than_the_bucket_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_in_memory()
    failing(monkeypatch, lambda kind, path: kind == "write" and "checkpoint-" in path)
    copy = run_copy.RunCopy(_job(tmp_path, bucket), WorkingCopy(tmp_path, bucket), 2, lead=True)
    being_written = tmp_path / "run" / ".checkpoint-run-000000000384.7.tmp"
    being_written.mkdir(parents=True)
    left = []
    try:
        for images in range(64, 321, 64):
            path = tmp_path / "run" / checkpoints.checkpoint_name("run", images)
            copy.checkpoint(checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={})))
            copy.flush()
            left.append([int(found.name[-12:]) for found in checkpoints.find_checkpoints(path.parent)])
    finally:
        copy.close()
    assert left == [[64], [128, 64], [192, 128], [256, 192], [320, 256]]
    assert being_written.exists()
    torn = stored_checkpoints.stored(bucket / "run", "run")
    assert all((bucket / "run" / name).read(checkpoints.MANIFEST) is None for name in torn)


def test_what_is_sent_leaves_later_ones_of_another_attempt_and_the_best_replaces_them(
    tmp_path: Path,
) -> None:
    bucket = bucket_in_memory()
    run = tmp_path / "run"

    def write(folder: Path, images: int) -> Path:
        path = folder / checkpoints.checkpoint_name("run", images)
        return checkpoints.write(path, checkpoints.Checkpoint(tensors={}, state={"images": images}))

    for folder, images in ((run, 200), (run, 300), (run / "best", 300)):
        path = write(folder, images)
        stored_checkpoints.send(path, bucket / folder.relative_to(tmp_path).as_posix())
        shutil.rmtree(path)
    copy = run_copy.RunCopy(_job(tmp_path, bucket), WorkingCopy(tmp_path, bucket), 2, lead=True)
    try:
        write(run / "best", 250)
        copy.checkpoint(write(run, 250))
        copy.flush()
    finally:
        copy.close()
    assert [int(name[-12:]) for name in stored_checkpoints.stored(bucket / "run")] == [300, 250, 200]
    assert [int(name[-12:]) for name in stored_checkpoints.stored(bucket / "run" / "best")] == [250]


def test_the_longer_log_of_a_rank_is_kept(tmp_path: Path) -> None:
    bucket = bucket_in_memory()
    one, two = (_job(tmp_path / name, bucket) for name in ("one", "two"))
    for job, text in ((one, "first\n"), (two, "second\n"), (two, "third\n")):
        run_copy.fetch_log(job, 1)
        job.folder.mkdir(parents=True, exist_ok=True)
        with open(job.folder / "worker-1.log", "a") as file:
            file.write(text)
        run_copy.send_log(job, 1)
    assert (bucket / "run").read("worker-1.log") == b"first\nsecond\nthird\n"


def test_every_rank_resumes_from_what_is_in_the_bucket_and_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rank's node may hold a checkpoint whose upload was not finished: no other rank has it."""
    bucket = bucket_in_memory()
    with monkeypatch.context() as patched:
        _dies_after(128, patched)
        with pytest.raises(KeyboardInterrupt):
            run_up_to(_job(tmp_path / "one", bucket))
    later = tmp_path / "one" / "run" / checkpoints.checkpoint_name("run", 192)
    checkpoints.write(later, checkpoints.Checkpoint(tensors={}, state={}))
    for machine, lead in (("one", True), ("two", False)):
        job = _job(tmp_path / machine, bucket)
        assert job.copy is not None
        rank = run_copy.RunCopy(job, job.copy, 2, lead=lead)
        found = rank.newest()
        assert found is not None
        assert int(found[0].name[-12:]) == 128
        rank.close()
    assert checkpoints.find_checkpoints(tmp_path / "one" / "run") == [
        later.with_name(later.name[:-3] + "128")
    ]
    assert not checkpoints.find_checkpoints(tmp_path / "two" / "run")
