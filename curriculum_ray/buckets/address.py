"""Addresses of folders in object storage, such as s3://bucket/path: without keys, which the environment has."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from curriculum_ray.addresses import presentable
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import fits_a_line, shown

__all__ = ["check_address", "is_address"]

# One letter is a drive of Windows; pathlib collapses slashes.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/")
_SECRET_NAME = re.compile(r"key|secret|token|password|credential|sas|sig", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether `text` names a place by a scheme, and is no path."""
    return _SCHEME.match(text) is not None


def check_address(text: str, option: str) -> str:
    """The address without a slash at its end; a one-line ConfigError, which names `option`, where it cannot be one.

    An address with a key or password is refused: it travels to every worker, and is written beside the results.
    """
    place = presentable(text)
    if not fits_a_line(text):
        raise ConfigError(f"{option} must have only printable characters, but got {shown(place)}")
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        raise ConfigError(f"{option} takes a folder of this machine as a path, but got {shown(place)}")
    if not rest.startswith("//") or not rest.strip("/"):
        raise ConfigError(f"{option} must name a bucket, as in s3://bucket/path, but got {shown(place)}")
    parts = urlsplit(text)
    user, at, _ = parts.netloc.rpartition("@")
    # An account of Azure stands behind its container; gs://anonymous@ asks for no keys.
    named = user == "anonymous" or (scheme.lower() in ("abfs", "abfss", "az", "adl") and ":" not in user)
    if (at and not named) or any(_SECRET_NAME.search(name) for name, _ in parse_qsl(parts.query)):
        raise ConfigError(
            f"{option} must hold no keys: give them to every node by its environment or role "
            f"(AWS_ACCESS_KEY_ID and the like), and the address as {shown(place)}"
        )
    start, mark, query = text.partition("?")
    return start.rstrip("/") + mark + query
