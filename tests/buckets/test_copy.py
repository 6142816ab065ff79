"""Working copies of a bucket: whose files are the truth, what is uploaded, and what is deleted there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from curriculum_ray.buckets.copy import STAGE_VARIABLE, OwnedFiles, WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError
from tests.buckets.places import bucket_in_memory, failing


def _part(folder: Path, bucket: Bucket, **options: object) -> OwnedFiles:
    folder.mkdir(parents=True, exist_ok=True)
    return OwnedFiles(
        WorkingCopy(folder, bucket),
        folder / "run",
        ".part.json",
        lambda name: not name.startswith("theirs"),
        deletes=lambda name: name == "gone",
        **options,  # type: ignore[arg-type]
    )


def _write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / "run" / name).write_text(content)


def _files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "run").glob("[!.]*")}


def test_another_machine_goes_on_from_the_bucket_and_the_first_one_then_from_there(tmp_path: Path) -> None:
    bucket, one, two = bucket_in_memory(), tmp_path / "one", tmp_path / "two"
    first = _part(one, bucket)
    first.begin("1", None)
    _write(one, a="1", gone="x", theirs="local")
    first.send()
    second = _part(two, bucket)
    second.begin("2", "1")
    assert _files(two) == {"a": "1", "gone": "x"}
    _write(two, a="2 longer", b="new")
    (two / "run" / "gone").unlink()
    second.send()
    assert (bucket / "run").sizes() == {"a": 8, "b": 3}
    again = _part(one, bucket)
    again.begin("3", "2")
    assert _files(one) == {"a": "2 longer", "b": "new", "theirs": "local"}


def test_the_machine_that_wrote_last_keeps_what_it_has_not_uploaded(tmp_path: Path) -> None:
    bucket = bucket_in_memory()
    first = _part(tmp_path, bucket)
    first.begin("1", None)
    _write(tmp_path, a="1")
    first.send()
    _write(tmp_path, a="22", b="not there yet")
    again = _part(tmp_path, bucket)
    again.begin("2", "1")
    assert _files(tmp_path) == {"a": "22", "b": "not there yet"}
    again.send()
    assert (bucket / "run").read("b") == b"not there yet"


def test_only_what_changed_is_uploaded_and_the_last_file_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, written = bucket_in_memory(), []
    failing(monkeypatch, lambda kind, path: kind == "write" and bool(written.append(path)))
    part = _part(tmp_path, bucket, last=("a",))
    part.begin("1", None)
    _write(tmp_path, a="1", b="1", c="1")
    part.send()
    assert [path[-1] for path in written] == ["b", "c", "a"]
    _write(tmp_path, c="22")
    part.send()
    _part(tmp_path, bucket).send()
    assert [path[-1] for path in written] == ["b", "c", "a", "c"]


def test_an_upload_that_fails_is_made_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, down = bucket_in_memory(), [True]
    failing(monkeypatch, lambda kind, path: path.endswith("b") and down[0], "PERMISSION_DENIED")
    part = _part(tmp_path, bucket)
    part.begin("1", None)
    _write(tmp_path, a="1", b="1", c="1")
    with pytest.raises(BucketError, match="run/b was not written"):
        part.send()
    down[0] = False
    part.send()
    assert sorted((bucket / "run").sizes()) == ["a", "b", "c"]


def test_a_full_disk_of_this_machine_keeps_nothing_from_being_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of it was uploaded cannot be noted there: it is uploaded again by the next session."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bucket = bucket_in_memory()
    part = _part(tmp_path, bucket)
    part.begin("1", None)
    _write(tmp_path, a="1")
    monkeypatch.setattr("curriculum_ray.buckets.copy.replace_file", full)
    part.send()
    assert (bucket / "run").sizes() == {"a": 1}


def test_what_is_large_and_not_needed_is_not_fetched(tmp_path: Path) -> None:
    bucket = bucket_in_memory()
    first = _part(tmp_path / "one", bucket)
    first.begin("1", None)
    _write(tmp_path / "one", a="1", large="1")
    first.send()
    second = _part(tmp_path / "two", bucket, fetched=lambda name: name != "large")
    second.begin("2", "1")
    assert _files(tmp_path / "two") == {"a": "1"}
    second.send()
    assert sorted((bucket / "run").sizes()) == ["a", "large"]


def test_a_file_that_another_program_deletes_stays_in_the_bucket_and_is_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = bucket_in_memory()
    part = _part(tmp_path, bucket, fetched=lambda name: name != "large")
    part.begin("1", None)
    _write(tmp_path, a="1", b="22", gone="x", large="333")
    part.send()
    for name in ("a", "gone", "large"):
        (tmp_path / "run" / name).unlink()
    part.send()
    assert (bucket / "run").sizes() == {"a": 1, "b": 2, "large": 3}
    assert _files(tmp_path) == {"a": "1", "b": "22"}
    part.send()
    assert [record.getMessage() for record in caplog.records] == [
        f"another program deleted {tmp_path}/run/a and 1 other file: nothing is deleted in {bucket.shown('run')}"
    ]
    _write(tmp_path, large="4444")
    part.send()
    assert (bucket / "run").sizes()["large"] == 4


def test_a_session_that_goes_on_with_its_own_files_fetches_those_that_are_gone(tmp_path: Path) -> None:
    bucket = bucket_in_memory()
    first = _part(tmp_path, bucket)
    first.begin("1", None)
    _write(tmp_path, a="1", b="1", gone="x")
    first.send()
    _write(tmp_path, b="not there yet")
    for name in ("a", "gone"):
        (tmp_path / "run" / name).unlink()
    again = _part(tmp_path, bucket)
    again.begin("2", "1")
    assert _files(tmp_path) == {"a": "1", "b": "not there yet"}
    again.send()
    assert (bucket / "run").sizes() == {"a": 1, "b": 13}


def test_working_copies_lie_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    copy = WorkingCopy.of(Bucket("s3://bucket/runs?region=x"))
    assert copy.folder.parent == tmp_path / "stage"
    assert copy.folder != WorkingCopy.of(Bucket("s3://bucket/others")).folder
    assert copy.shown(copy.folder / "a" / "b") == "s3://bucket/runs/a/b?region=x"
