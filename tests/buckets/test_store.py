"""Requests to a bucket: what they do, which are tried again, and what is said when they are given up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
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


@pytest.mark.parametrize("address", ["nothing://bucket/x", "s3://bucket/x?bogus=1", "s3://a b/x"])
def test_an_address_that_no_file_system_takes_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Bucket(address).check()
