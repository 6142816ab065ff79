"""A driver's folder in a bucket: one driver at a time, which finds what the one before left, wherever that ran."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest

from curriculum_ray.buckets.copy import OwnedFiles, WorkingCopy
from curriculum_ray.buckets.store import Bucket, TakenOver
from curriculum_ray.distributed.fit import TrainingFailed
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Job
from curriculum_ray.runs.run_copy import RunCopy, send_log
from tests.buckets.places import bucket_in_memory, failing
from tuning.folder import bucket_lease, in_bucket
from tuning.folder.bucket_lease import BucketHolder, BucketLease
from tuning.folder.in_bucket import kept
from tuning.folder.layout import LEASE_FILE
from tuning.folder.lease import Taken
from tuning.folder.lock import InUse
from tuning.folder.process import this_process


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_lease, "SETTLE_S", 0.0)
    monkeypatch.setattr(bucket_lease, "TORN_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(bucket_lease, "EVERY_S", 1_000.0)  # no test is interrupted


def _elsewhere(bucket: Bucket, **changes: object) -> None:
    """Write the lease of a process on another machine."""
    own = {
        **this_process().model_dump(),
        "host": "other-host",
        "id": "theirs",
        "time": "2026-01-02 03:04:05 UTC",
    }
    bucket.write(LEASE_FILE, json.dumps({**own, **changes}).encode())


def _lease(bucket: Bucket) -> BucketHolder:
    return BucketHolder.model_validate_json(bucket.read(LEASE_FILE) or b"{}")


def _say_nothing(line: str) -> None:
    pass


def test_a_lease_is_refused_while_its_holder_lives_and_names_the_one_before() -> None:
    bucket = bucket_in_memory()
    first = BucketLease.take(bucket, 0.0)
    assert first.before is None
    with pytest.raises(Taken):
        BucketLease.take(bucket, 0.0)
    first.release()
    second = BucketLease.take(bucket, 0.0)
    assert second.before == first.id != second.id
    second.release()
    assert _lease(bucket).released


def test_the_lease_of_a_process_that_cannot_be_seen_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, said, beats = bucket_in_memory(), [], iter(range(1, 100))
    _elsewhere(bucket)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda seconds: _elsewhere(bucket, beat=next(beats)))
        with pytest.raises(Taken):
            BucketLease.take(bucket, 5.0, said.append)
    assert "process" in said[0]
    assert "other-host (2026-01-02 03:04:05 UTC)" in said[0]
    lease = BucketLease.take(bucket, 0.01, said.append)
    assert lease.before == "theirs"
    lease.release()


@pytest.mark.parametrize("content", [b"", b"torn {", b"[]", b'{"pid": "x"}'])
def test_a_lease_that_cannot_be_read_holds_nothing(content: bytes) -> None:
    bucket = bucket_in_memory()
    bucket.write(LEASE_FILE, content)
    BucketLease.take(bucket, 0.0).release()


def _torn(monkeypatch: pytest.MonkeyPatch, *reads: int) -> None:
    """From now on, these reads of a lease, counted from 0, find half of it."""
    usual, count = Bucket.read, itertools.count()

    def read(self: Bucket, name: str, *pauses: tuple[float, ...]) -> bytes | None:
        content = usual(self, name, *pauses)
        return b'{"id": "the' if name == LEASE_FILE and next(count) in reads else content

    monkeypatch.setattr(Bucket, "read", read)


@pytest.mark.parametrize("reads", [(0,), (0, 1)])
def test_a_lease_that_is_taken_while_its_holder_writes_it_is_refused(
    reads: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_in_memory()
    first = BucketLease.take(bucket, 0.0)
    with monkeypatch.context() as patched:
        _torn(patched, *reads)
        with pytest.raises(Taken) as taken:
            BucketLease.take(bucket, 0.0)
    assert getattr(taken.value.process, "id", None) == first.id
    first.release()


def test_a_lease_that_is_half_written_when_it_is_read_back_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        _torn(patched, 1)
        lease = BucketLease.take(bucket_in_memory(), 0.0)
    lease.release()


@pytest.mark.parametrize("reads", [(1,), (1, 2, 3)])
def test_a_holder_that_is_seen_writing_its_lease_is_alive(
    reads: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, beats = bucket_in_memory(), iter(range(1, 100))
    _elsewhere(bucket)

    def sleep(seconds: float) -> None:
        if seconds:  # while it is watched
            _elsewhere(bucket, beat=next(beats))

    monkeypatch.setattr("time.sleep", sleep)
    _torn(monkeypatch, *reads)
    with pytest.raises(Taken):
        BucketLease.take(bucket, 5.0)


def test_a_lease_is_renewed_again_after_an_error_of_an_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, errors, renewed = bucket_in_memory(), [RuntimeError("of an unknown kind")], threading.Event()

    def write(folder: Bucket, own: BucketHolder, *pauses: tuple[float, ...]) -> None:
        if own.beat and errors:
            raise errors.pop()
        usual(folder, own, *pauses)
        if own.beat:
            renewed.set()

    usual = bucket_lease._write
    monkeypatch.setattr(bucket_lease, "EVERY_S", 0.01)
    monkeypatch.setattr(bucket_lease, "_write", write)
    lease = BucketLease.take(bucket, 0.0)
    assert renewed.wait(20)
    assert not errors
    lease.release()


@pytest.mark.parametrize(
    "error", [RuntimeError("of an unknown kind"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
def test_changes_are_uploaded_after_an_error_of_an_unknown_kind_or_of_this_disk(
    error: Exception, machines: tuple[WorkingCopy, WorkingCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    errors, sent, usual = [error], threading.Event(), OwnedFiles.send

    def send(part: OwnedFiles) -> None:
        if errors:
            raise errors.pop()
        usual(part)
        sent.set()

    monkeypatch.setattr(in_bucket, "_SEND_EVERY_S", 0.01)
    monkeypatch.setattr(OwnedFiles, "send", send)
    with kept(one, one.folder / "mine", _say_nothing, study=True):
        assert sent.wait(20)
    assert not errors


def test_of_two_that_take_it_at_once_one_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = bucket_in_memory()
    monkeypatch.setattr(bucket_lease.time, "sleep", lambda seconds: _elsewhere(bucket))
    with pytest.raises(Taken):
        BucketLease.take(bucket, 0.0)


def test_a_holder_whose_lease_was_taken_over_is_interrupted_and_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted = threading.Event()
    monkeypatch.setattr(bucket_lease, "EVERY_S", 0.01)
    monkeypatch.setattr(bucket_lease._thread, "interrupt_main", interrupted.set)
    bucket = bucket_in_memory()
    lease = BucketLease.take(bucket, 0.0)
    _elsewhere(bucket)
    assert interrupted.wait(20)
    with pytest.raises(InUse, match="was taken over by another process while this one was cut off"):
        lease.check()
    lease.release()
    assert _lease(bucket).id == "theirs"


def test_a_holder_may_write_until_its_lease_is_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    bucket = bucket_in_memory()
    lease = BucketLease.take(bucket, 0.0)
    lease.check()
    _elsewhere(bucket)
    for _ in range(2):
        with pytest.raises(InUse):
            lease.check()
    lease.release()
    assert [record.getMessage() for record in caplog.records] == [
        f"{bucket.shown()} was taken over by another process: nothing more is uploaded from here"
    ]


@pytest.mark.parametrize("content", [b"", b'{"id": "the', None])
def test_a_lease_that_is_read_while_it_is_written_is_not_lost(content: bytes | None) -> None:
    bucket = bucket_in_memory()
    lease = BucketLease.take(bucket, 0.0)
    bucket.remove(LEASE_FILE) if content is None else bucket.write(LEASE_FILE, content)
    lease.check()
    _elsewhere(bucket)
    with pytest.raises(InUse):
        lease.check()
    lease.release()


@pytest.fixture
def machines(tmp_path: Path) -> tuple[WorkingCopy, WorkingCopy]:
    """The working copies of one bucket on two machines."""
    bucket = bucket_in_memory()
    return WorkingCopy(tmp_path / "one", bucket), WorkingCopy(tmp_path / "two", bucket)


def _write(copy: WorkingCopy, **files: str) -> None:
    for name, content in files.items():
        path = copy.folder / "mine" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _stored(copy: WorkingCopy) -> set[str]:
    """The names of what the bucket has of it, without hidden files."""
    return {name for name in (copy.bucket / "mine").sizes() if name[0] != "."}


def _names(copy: WorkingCopy) -> set[str]:
    folder = copy.folder / "mine"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_driver_on_another_machine_finds_the_folder_as_the_last_one_left_it(
    machines: tuple[WorkingCopy, WorkingCopy],
) -> None:
    one, two = machines
    driver = contextlib.ExitStack()
    keeper = driver.enter_context(kept(one, one.folder / "mine", _say_nothing, study=True))
    _write(one, identity="1", trials__a__record="r", trials__b__record="r", slots__x="ray")
    keeper.send()
    _write(one, journal="not sent yet")
    driver.push(_interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        driver.close()
    assert "journal" in _names(one), "an interrupted command leaves its working copy"
    with kept(two, two.folder / "mine", _say_nothing, study=True):
        assert _names(two) == {"identity", "journal", "trials/a/record", "trials/b/record"}
        _write(two, identity="2")
    assert not (two.folder / "mine").exists(), "what is in the bucket is left on the machine"
    with kept(one, one.folder / "mine", _say_nothing, study=True):
        assert (one.folder / "mine" / "identity").read_text() == "2"


def test_a_driver_finds_the_trials_that_only_a_worker_on_another_machine_wrote_to(
    machines: tuple[WorkingCopy, WorkingCopy],
) -> None:
    one, two = machines
    with kept(one, one.folder / "mine", _say_nothing, study=True):
        _write(one, identity="1")
    (one.bucket / "mine" / "trials" / "search-003").write("config.yaml", b"seed: 0")
    with kept(two, two.folder / "mine", _say_nothing, study=True):
        assert _names(two) == {"identity", "trials/search-003/config.yaml"}


def _journals(bucket: Bucket) -> tuple[bytes | None, bytes | None]:
    return bucket.read("optuna.journal"), (bucket / "trials" / "a").read("record.json")


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_driver_whose_lease_was_taken_over_changes_nothing_in_the_bucket(
    interrupted: bool, machines: tuple[WorkingCopy, WorkingCopy]
) -> None:
    one, _ = machines
    bucket, folder = one.bucket / "mine", one.folder / "mine"
    checkpoint = bucket / "slots" / "slot-0" / "checkpoint-a-000000000064"
    driver = contextlib.ExitStack()
    keeper = driver.enter_context(kept(one, folder, _say_nothing, study=True))
    _write(one, **{"optuna.journal": "ours", "trials__a__record.json": "ours"})
    keeper.send()
    assert _journals(bucket) == (b"ours", b"ours")

    _elsewhere(bucket)
    bucket.write("optuna.journal", b"theirs")
    (bucket / "trials" / "a").write("record.json", b"theirs")
    checkpoint.write("state.json", b"theirs")
    _write(one, **{"optuna.journal": "ours, later", "trials__a__record.json": "ours, later", "new": "ours"})
    keeper.send()
    keeper.forget("a")
    with pytest.raises(InUse, match="mine was taken over by another process"):
        keeper.send_all()
    if interrupted:
        driver.push(_interrupted)
    with pytest.raises(KeyboardInterrupt if interrupted else InUse):
        driver.close()
    assert _journals(bucket) == (b"theirs", b"theirs")
    assert checkpoint.read("state.json") == b"theirs"
    assert bucket.read("new") is None
    assert _lease(bucket).id == "theirs"
    assert _names(one) == {"optuna.journal", "trials/a/record.json", "new"}, "what is nowhere else is deleted"


def test_workers_of_a_driver_whose_lease_was_taken_over_change_nothing_in_the_bucket(
    machines: tuple[WorkingCopy, WorkingCopy], caplog: pytest.LogCaptureFixture
) -> None:
    """Also before a worker of the other driver has taken up their run."""
    one, _ = machines
    run = one.folder / "mine"
    driver = contextlib.ExitStack()
    keeper = driver.enter_context(kept(one, run, _say_nothing, study=False))
    assert pickle.dumps(keeper.copy), "it cannot travel to the workers"
    job = Job.of("run", RunConfig(), run, copy=keeper.copy).assigned(run)
    worker = RunCopy(job, keeper.copy, 2, lead=True)
    _write(one, **{"metrics.jsonl": "ours", "worker-1.log": "ours"})
    worker.changed()
    worker.flush()
    send_log(job, 1)
    assert {"metrics.jsonl", "worker-1.log"} <= _stored(one)

    _elsewhere(one.bucket / "mine")
    _write(one, **{"metrics.jsonl": "ours, later", "worker-1.log": "ours, later", "result.json": "{}"})
    worker.flush()
    worker.close()
    send_log(job, 1)
    with pytest.raises(TakenOver, match="mine was taken over by another process"):
        RunCopy(job, keeper.copy, 2, lead=True)
    for name in ("metrics.jsonl", "worker-1.log"):
        assert (one.bucket / "mine").read(name) == b"ours"
    assert "result.json" not in _stored(one)
    assert "mine was taken over by another process: nothing more is uploaded from here" in caplog.text
    driver.close()


def test_an_upload_that_is_tried_again_after_the_lease_was_taken_over_is_given_up(
    machines: tuple[WorkingCopy, WorkingCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a driver was uploading when it was cut off must not arrive once it is back."""
    one, _ = machines
    bucket = one.bucket / "mine"
    tries = []

    def cut_off(kind: str, path: str) -> bool:
        if kind != "write" or not path.endswith("optuna.journal") or tries:
            return False
        tries.append(path)
        _elsewhere(bucket)
        bucket.write("optuna.journal", b"theirs")
        return True

    driver = contextlib.ExitStack()
    keeper = driver.enter_context(kept(one, one.folder / "mine", _say_nothing, study=True))
    _write(one, **{"optuna.journal": "ours"})
    failing(monkeypatch, cut_off)
    keeper.send()
    with pytest.raises(InUse):
        driver.close()
    assert len(tries) == 1
    assert bucket.read("optuna.journal") == b"theirs"


def test_only_the_queue_of_writes_is_deleted_in_the_bucket(machines: tuple[WorkingCopy, WorkingCopy]) -> None:
    one, _ = machines
    names = ["identity.json", "mlflow.spool.jsonl", "trials/a/record.json"]
    with kept(one, one.folder / "mine", _say_nothing, study=True) as keeper:
        _write(one, **{name.replace("/", "__"): name for name in names})
        keeper.send_all()
        for name in names:
            (one.folder / "mine" / name).unlink()
        keeper.send_all()
        assert _names(one) == {"identity.json", "trials/a/record.json"}
        assert (one.folder / "mine" / "identity.json").read_text() == "identity.json"
    assert _stored(one) == {
        "identity.json",
        "trials/a/record.json",
    }


@pytest.mark.parametrize("here", ["kept", "deleted with the rest", "deleted too"])
def test_a_trial_whose_folder_is_deleted_in_the_bucket_and_in_the_working_copy_runs_again(
    here: str, machines: tuple[WorkingCopy, WorkingCopy]
) -> None:
    """The remedy for a failed trial, after which the working copy stays; in one of the two places it is none."""
    one, _ = machines
    study, trial = one.folder / "mine", one.folder / "mine" / "trials" / "a"
    with kept(one, study, _say_nothing, study=True):
        _write(one, **{"trials__a__record.json": "failed", "trials__a__error.txt": "why", "other": "1"})
    assert trial.exists()
    (one.bucket / "mine" / "trials").remove_folder("a")
    if here != "kept":
        shutil.rmtree(trial if here == "deleted too" else study)
    with kept(one, study, _say_nothing, study=True):
        assert (trial / "record.json").exists() == (here == "kept")
        assert (study / "other").read_text() == "1"


def test_the_lease_of_the_working_copy_has_ended_before_the_copy_is_deleted(
    machines: tuple[WorkingCopy, WorkingCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    folder, usual = one.folder / "mine", shutil.rmtree
    others = threading.enumerate()
    alive, left = list[bool](), list[bool]()

    def leases() -> int:
        return sum(thread.name == "lease" for thread in threading.enumerate() if thread not in others)

    def rmtree(path: Path, **options: object) -> None:
        alive.append(leases() > 0)
        left.append((folder / "record").exists())
        usual(path, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("tuning.folder.in_bucket.shutil.rmtree", rmtree)
    with kept(one, folder, _say_nothing, study=True):
        assert leases() == 1
        _write(one, record="r")
    assert alive == [False, False], "the thread would find its file gone, and interrupt the command"
    assert left[-1] is False, "a driver that starts meanwhile finds half of the copy"
    assert not one.folder.exists()


def test_a_copy_whose_deletion_was_interrupted_is_deleted_with_the_next(
    machines: tuple[WorkingCopy, WorkingCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    folder = one.folder / "mine"

    def rmtree(path: Path, **options: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    driver = contextlib.ExitStack()
    driver.enter_context(kept(one, folder, _say_nothing, study=True))
    _write(one, record="r")
    with monkeypatch.context() as patched:
        patched.setattr("tuning.folder.in_bucket.shutil.rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt):
            driver.close()
    assert not folder.exists()
    assert one.folder.exists()
    with kept(one, folder, _say_nothing, study=True):
        assert (folder / "record").read_text() == "r"
    assert not one.folder.exists()


def test_a_second_driver_is_refused_with_time_and_host(machines: tuple[WorkingCopy, WorkingCopy]) -> None:
    one, two = machines
    with (
        kept(one, one.folder / "mine", _say_nothing, study=False),
        pytest.raises(
            InUse, match=r"runs/mine is in use by process \d+ on .*, which renewed its lease at \d{4}-"
        ),
        kept(two, two.folder / "mine", _say_nothing, study=False),
    ):
        pass


def test_what_workers_write_is_left_to_them(machines: tuple[WorkingCopy, WorkingCopy]) -> None:
    one, _ = machines
    files = {"metrics.jsonl": "{}", "checkpoint-run-000000000064/state.json": "{}", "worker-0.log": "x"}
    with kept(one, one.folder / "mine", _say_nothing, study=False):
        _write(one, **files, **{"driver.log": "x", "identity.json": "{}"})
    assert _stored(one) == {
        "driver.log",
        "identity.json",
    }


def test_a_bucket_that_takes_nothing_any_more_ends_in_one_line_and_the_working_copy_stays(
    machines: tuple[WorkingCopy, WorkingCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    driver = contextlib.ExitStack()
    driver.enter_context(kept(one, one.folder / "mine", _say_nothing, study=True))
    _write(one, record="r")
    failing(monkeypatch, lambda kind, path: path.endswith("record"))
    with pytest.raises(TrainingFailed, match="record was not written: 503; the same command goes on"):
        driver.close()
    assert _names(one) == {"record"}
