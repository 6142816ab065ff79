"""Requests to a bucket: what they do, which are tried again, and what is said when they are given up."""

from __future__ import annotations

import io
import os
import signal
import time
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curriculum_ray.buckets import writing
from curriculum_ray.buckets.address import check_address
from curriculum_ray.buckets.copy import STAGE_VARIABLE, OwnedFiles, WorkingCopy, is_hidden
from curriculum_ray.buckets.store import Bucket, BucketError, filesystem
from curriculum_ray.buckets.writing import CHUNK
from curriculum_ray.config import ConfigError
from curriculum_ray.data.shard_copies import folder_of
from tests.buckets.places import bucket_in_memory, failing


def test_objects_are_written_listed_read_and_deleted() -> None:
    bucket = bucket_in_memory()
    folder = bucket / "a" / "b"
    assert folder.sizes() == {}
    assert folder.folders() == []
    folder.write("c", b"12")
    folder.upload(io.BytesIO(b"345"), "d/e")
    assert bucket.sizes() == {"a/b/c": 2, "a/b/d/e": 3}
    assert folder.sizes(deep=False) == {"c": 2}
    assert (folder.folders(), folder.read("d/e"), folder.read("none")) == (["d"], b"345", None)
    folder.remove("c")
    folder.remove("c")
    bucket.remove_folder("a")
    bucket.remove_folder("a")
    assert bucket.sizes() == {}
    bucket.check()
    assert bucket.sizes() == {}


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    bucket = bucket_in_memory()
    bucket.write("a", b"whole")
    assert not bucket.download("none", path)
    assert bucket.download("a", path)
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_request_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, left = bucket_in_memory(), 3

    def fails(kind: str, path: str) -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    failing(monkeypatch, fails, "AWS Error SLOW_DOWN during UploadPart operation")
    bucket.write("a", b"1")
    assert left == -1
    assert bucket.read("a") == b"1"


@pytest.mark.parametrize(
    ("error", "tries", "said"),
    [
        ("AWS Error SLOW_DOWN during PutObject: x (Request ID: 123)", 10, "asks for fewer requests"),
        ("AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7", 10, "does not answer"),
        ("AWS Error ACCESS_DENIED during PutObject: x", 1, "access is denied"),
        ("AWS Error UNKNOWN (HTTP status 403) during HeadObject", 1, "HTTP status 403"),
        ("AWS Error NO_SUCH_BUCKET during PutObject", 1, "no such bucket"),
        ("cannot reach https://me:planted@host/x?sig=planted", 10, "https://host/x"),
    ],
)
def test_a_request_that_is_given_up_says_why_in_one_line(
    error: str, tries: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    failing(monkeypatch, lambda kind, path: not made.append(path), error)
    bucket = bucket_in_memory()
    with pytest.raises(
        BucketError, match=rf"^memory://bucket-\d+/runs/a was not written: .*{said}"
    ) as given_up:
        bucket.write("a", b"1")
    assert len(made) == tries
    assert "planted" not in str(given_up.value)
    with pytest.raises(ConfigError, match=rf"^--output memory://bucket-\d+/runs cannot be used: .*{said}"):
        bucket.check()


class _OfALibrary(Exception):
    """As of azure-core or paramiko, whose errors are no OSError."""


@pytest.mark.parametrize(
    ("error", "said"), [("the server is busy", "the server is busy"), ("", "_OfALibrary")]
)
def test_an_error_of_any_library_is_one_of_the_bucket(
    error: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, made = bucket_in_memory(), list[str]()
    bucket.write("a", b"1")
    failing(monkeypatch, lambda kind, path: not made.append(path), error, _OfALibrary)
    for request, done in ((lambda: bucket.write("a", b"2"), "written"), (lambda: bucket.read("a"), "read")):
        made.clear()
        with pytest.raises(BucketError, match=f"runs/a was not {done}: {said}"):
            request()
        assert len(made) == 10


def test_a_file_system_that_cannot_be_reached_when_it_is_opened_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(uri: str) -> None:
        raise _OfALibrary("the host is unknown")

    monkeypatch.setattr("fsspec.core.url_to_fs", fails)
    with pytest.raises(ConfigError, match=r"^sftp://host/x cannot be opened: the host is unknown$"):
        Bucket("sftp://host/x").check()


def test_why_a_request_was_given_up_travels_between_processes() -> None:
    error = BucketError("s3://bucket/a was not written: access is denied", "access is denied")
    again = copy(error)  # by what pickle does
    assert isinstance(again, BucketError)
    assert (str(again), again.reason) == (str(error), error.reason)


@pytest.mark.parametrize("address", ["nothing://bucket/x", "s3://bucket/x?bogus=1", "s3://a b/x"])
def test_an_address_that_no_file_system_takes_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Bucket(address).check()


class _Interrupted(io.BytesIO):
    """A file of two chunks and more, whose second chunk cannot be read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(bytes(3 * CHUNK))
        self._error, self._reads = error, 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads == 2:
            raise self._error
        return super().read(size)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_an_upload_that_is_interrupted_leaves_what_was_there(error: BaseException) -> None:
    bucket = bucket_in_memory()
    bucket.write("a", b"earlier")
    for name in ("a", "new"):
        with pytest.raises(type(error)):
            bucket.upload(_Interrupted(error), name)
        assert bucket.sizes() == {"a": 7}
    assert bucket.read("a") == b"earlier"


def test_a_large_file_replaces_an_object_at_once_and_leaves_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, content = bucket_in_memory(), bytes(2 * CHUNK)
    written: list[str] = []
    failing(monkeypatch, lambda kind, path: kind == "write" and bool(written.append(path)))
    for _ in range(2):
        bucket.upload(io.BytesIO(content), "a")
        assert bucket.sizes() == {"a": len(content)}
    first, second = (path.rpartition("/")[2] for path in written)
    assert first == "a", "what replaces nothing needs no copy"
    assert is_hidden(second)
    monkeypatch.setattr(writing, "_MOST_COPIED", CHUNK)
    bucket.upload(io.BytesIO(content), "a")
    assert written[-1].rpartition("/")[2] == "a"


def test_each_try_to_change_something_is_allowed_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is made again after a pause, in which another process may have got the folder."""
    bucket, held = bucket_in_memory(), [True]

    def check() -> None:
        if not held[0]:
            raise LookupError

    def fails(kind: str, path: str) -> bool:
        held[0] = False
        return kind == "write"

    ours = replace(bucket, before_change=check) / "mine"
    ours.write("a", b"ours")
    failing(monkeypatch, fails)
    with pytest.raises(LookupError):
        ours.write("a", b"ours again")
    for change in (
        lambda: ours.remove("a"),
        lambda: ours.remove_folder(""),
        lambda: ours.upload(io.BytesIO(), "a"),
    ):
        with pytest.raises(LookupError):
            change()
    assert ours.read("a") == b"ours"
    assert ours.sizes() == {"a": 4}


def test_what_a_killed_upload_leaves_beside_an_object_is_no_file_of_a_working_copy(tmp_path: Path) -> None:
    bucket = bucket_in_memory()
    (bucket / "run").write("log", b"whole")
    (bucket / "run").write(".log.0123456789abcdef.part", b"ha")
    part = OwnedFiles(WorkingCopy(tmp_path, bucket), tmp_path / "run", ".part.json", lambda name: True)
    part.begin("1", None)
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name != ".part.json"] == ["log"]
    part.send()
    assert (bucket / "run").read("log") == b"whole"


def test_a_signal_while_an_object_is_written_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the stream is open and empty."""
    bucket = bucket_in_memory()
    bucket.write("a", b"earlier")
    usual = MemoryFileSystem._open

    def opened(self: MemoryFileSystem, path: str, mode: str = "rb", **more: Any) -> Any:
        stream = usual(self, path, mode, **more)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return stream

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "_open", opened)
        with pytest.raises(KeyboardInterrupt):
            bucket.write("a", b"whole")
    assert bucket.read("a") == b"whole"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "abfs://runs@me.dfs.core.windows.net/a",
            "abfs://runs@me.dfs.core.windows.net/a/my%20study/best%402/%23",
        ),
        (
            "s3://bucket/a?region=eu-west-1&endpoint_override=http://127.0.0.1:9",
            "s3://bucket/a/my%20study/best%402/%23?region=eu-west-1&endpoint_override=http://127.0.0.1:9",
        ),
        ("gs://anonymous@bucket?scheme=http", "gs://anonymous@bucket/my%20study/best%402/%23?scheme=http"),
    ],
)
def test_an_address_that_is_shown_names_the_same_place(address: str, shown: str) -> None:
    bucket = Bucket(check_address(address, "--output")) / "my study"
    assert bucket.shown("best@2/#") == shown
    (one, path), (two, folder) = filesystem(check_address(shown, "--checkpoint")), bucket.place
    assert (path, one) == (f"{folder}/best@2/#", two)


@pytest.mark.parametrize(
    "addresses",
    [
        ("abfs://one@me.dfs.core.windows.net/a", "abfs://two@me.dfs.core.windows.net/a"),
        (
            "s3://b/a",
            "s3://b/a?region=eu-west-1",
            "s3://b/a?endpoint_override=host:1",
            "s3://b/a?scheme=http",
        ),
    ],
)
def test_two_places_have_two_working_copies(
    addresses: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path))
    folders = {WorkingCopy.of(Bucket(check_address(each, "--output"))).folder for each in addresses}
    assert len(folders) == len(addresses)
    assert len({folder_of(each) for each in addresses}) == len(addresses)
