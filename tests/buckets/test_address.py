"""Addresses of buckets: what is one, and what is refused without showing a key."""

from __future__ import annotations

import pytest

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.address import check_address, is_address, names
from curriculum_ray.config import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        *((text, True) for text in ("s3://bucket/path", "gs://bucket", "s3:/bucket")),
        *((text, False) for text in ("runs", "C:/runs", "/runs/a:/b", "my-runs:old")),
    ],
)
def test_what_names_a_place_by_a_scheme_is_an_address(text: str, address: bool) -> None:
    assert is_address(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/path/", "s3://bucket/path"),
        ("gs://anonymous@bucket/path", "gs://anonymous@bucket/path"),
        (
            "abfs://container@account.dfs.core.windows.net/x/",
            "abfs://container@account.dfs.core.windows.net/x",
        ),
        ("s3://bucket/x/?region=eu-west-1&scheme=http", "s3://bucket/x?region=eu-west-1&scheme=http"),
        (
            "abfs://c@account/x?credential_kind=environment",
            "abfs://c@account/x?credential_kind=environment",
        ),
    ],
)
def test_an_address_is_taken_without_a_slash_at_its_end(text: str, address: str) -> None:
    assert check_address(text, "--output") == address
    assert presentable(address) == address, "what is not shown could be another place"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s3://me:planted@bucket/x", "must hold no keys"),
        ("s3://planted@bucket/x", "must hold no keys"),
        ("abfs://a:planted@account.dfs.core.windows.net/x", "must hold no keys"),
        ("s3://bucket/x?secret_key=planted", "must hold no keys"),
        ("s3://bucket/x?secret%5Fkey=planted", "must hold no keys"),
        ("abfs://container@account/x?client_secret=planted", "must hold no keys"),
        ("s3://bucket/x?endpoint_override=http://me:planted@host", "must hold no keys"),
        ("s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3Aplanted%40host", "must hold no keys"),
        ("s3://me:pass/planted@bucket/x", "must hold no keys"),
        ("s3:///me:planted@bucket/x", "must hold no keys"),
        ("s3://bucket/x?planted", "must hold no keys"),
        ("s3://bucket/a@b/x", 'no "@" and no "#" in its path: for s3, gs and abfs, write %40 and %23'),
        ("abfs://container@account/a@b", 'no "@" and no "#"'),
        ("gs://bucket/run#1", 'no "@" and no "#"'),
        ("abfs://container@account/x#1", 'no "@" and no "#"'),
        (
            "s3://bucket/x?region=eu&bogus=1",
            "only settings that pyarrow knows for s3 .* but got 'bogus'",
        ),
        ("abfs://container@account/x?bogus=1", "only settings that pyarrow knows for abfs"),
        ("memory://bucket/x?region=eu", "only settings that pyarrow knows for memory"),
        ("s3://?region=eu", "must name a bucket"),
        ("s3://[bucket/x@y", 'no "@" and no "#"'),
        ("s3:/bucket/x", "must name a bucket"),
        ("s3://", "must name a bucket"),
        ("file:///runs", "takes a folder of this machine as a path"),
        ("s3://bucket/a\nb", "printable"),
    ],
)
def test_what_can_be_no_place_for_results_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^--output .*{reason}") as refused:
        check_address(text, "--output")
    assert "planted" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("s3://bucket/a/b/?endpoint_override=http://host:1", ["bucket", "a", "b"]),
        ("abfs://container@account/a", ["account", "a"]),
        ("s3:/me:pass/planted@bucket/a?x=planted", ["bucket", "a"]),
        ("gs://bucket", ["bucket"]),
    ],
)
def test_the_names_of_an_address_are_those_of_its_folders(address: str, found: list[str]) -> None:
    assert names(address) == found
