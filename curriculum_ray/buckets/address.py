"""Addresses of folders in object storage, such as s3://bucket/path: without keys, which the environment has."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from curriculum_ray.addresses import NATIVE, SETTINGS, presentable
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import fits_a_line, shown

__all__ = ["check_address", "is_address", "names"]

# One letter is a drive of Windows; pathlib collapses slashes.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/")
_NAMES = re.compile(r"[^:]+:/+(?:[^/?@]*@)?([^?]*)")
_SECRET_NAME = re.compile(r"key|secret|token|password|credential|sas|sig", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether `text` names a place by a scheme, and is no path."""
    return _SCHEME.match(text) is not None


def check_address(text: str, option: str) -> str:
    """The address without a slash at its end; a one-line ConfigError, which names `option`, where it cannot be one.

    An address with a key or password is refused, as it travels to every worker and is written beside the results; and
    so is whatever else would not be shown of it, by which one place could be taken for another.
    """
    place = presentable(text)
    if not fits_a_line(text):
        raise ConfigError(f"{option} must have only printable characters, but got {shown(place)}")
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        raise ConfigError(f"{option} takes a folder of this machine as a path, but got {shown(place)}")
    if not rest.startswith("//") or not rest.partition("?")[0].strip("/"):
        raise ConfigError(f"{option} must name a bucket, as in s3://bucket/path, but got {shown(place)}")
    if place != text:
        raise ConfigError(f"{option} must {_rule(scheme, rest, place)}")
    start, mark, query = text.partition("?")
    return start.rstrip("/") + mark + query


def names(address: str) -> list[str]:
    """The names that lead to the folder at an address, as it writes them: the bucket or host, and the folders."""
    found = _NAMES.match(presentable(address))
    assert found is not None
    return found[1].rstrip("/").split("/")


def _rule(scheme: str, rest: str, place: str) -> str:
    """What an address breaks of which only `place` may be shown."""
    user = rest.lstrip("/").rpartition("@")[0]
    if user and f"/{user}@" in place:
        user = ""
    in_path = "/" in user and ":" not in user
    pairs = [pair.partition("=") for pair in rest.partition("?")[2].split("&")]
    keys = [unquote_plus(key) for key, mark, _ in pairs if mark]
    unknown = [key for key in keys if scheme.lower() not in NATIVE or key not in SETTINGS]
    if (in_path or not user) and not any(_SECRET_NAME.search(key) for key in unknown):
        if in_path or "#" in rest:
            return 'have no "@" and no "#" in its path: for s3, gs and abfs, write %40 and %23'
        if unknown:
            known = f'settings that pyarrow knows for {scheme} behind the "?"'
            return f"have only {known}, but got {shown(unknown[0])}"
    return (
        "hold no keys: give them to every node by its environment or role "
        f"(AWS_ACCESS_KEY_ID and the like), and the address as {shown(place)}"
    )
