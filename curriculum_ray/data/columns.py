"""Which column, key or member holds images, captions and labels: the configured one, or a usual name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json

__all__ = [
    "CAPTION_NAMES",
    "IMAGE_NAMES",
    "LABEL_NAMES",
    "SHARD_CAPTIONS",
    "check_once",
    "class_names",
    "pick",
    "pick_by_alias",
]

CAPTION_NAMES = ("text", "caption", "TEXT", "Text", "Caption", "CAPTION", "captions", "prompt", "description")
"""Usual names of captions; the first one present is read."""
SHARD_CAPTIONS = ("caption", "text", *CAPTION_NAMES[2:])
"""The same for shards, where `caption` comes first."""
LABEL_NAMES = ("label", "labels", "cls", "class", "class_id", "category", "target", "fine_label")
IMAGE_NAMES = (
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "picture",
    "photo",
    "image_bytes",
    "bytes",
    "content",
)


def pick(
    requested: str | None, names: Sequence[str], usual: Sequence[str], setting: str, place: str
) -> str | None:
    """Return the name to read: `requested`, which must exist, else the first usual one, or None."""
    if requested is not None:
        if requested not in names:
            listed = ", ".join(names[:20]) or "none"
            raise ConfigError(
                f"{setting} must be a column or key of {place}, which has {listed}, but got {requested}"
            )
        return requested
    return next((name for name in usual if name in names), None)


def pick_by_alias(
    requested: str | None, names: Sequence[str], usual: Sequence[str], setting: str, place: str
) -> tuple[str | None, str]:
    """Like `pick`, with a note if several usual names exist."""
    found = pick(requested, names, usual, setting, place)
    others = [name for name in usual if name in names and name != found]
    if requested is None and found is not None and others:
        return (
            found,
            f"{place} has {', '.join((found, *others))}, of which {found} is read: {setting} chooses another",
        )
    return found, ""


def check_once(path: Path | str, names: Sequence[str]) -> None:
    """Raise ConfigError where two columns of a file have one name: which of them is meant is not known."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"{path} must have each column once, but has {twice} twice")


def class_names(schema: Any) -> Mapping[str, tuple[str, ...]]:
    """Return the class names of each ClassLabel column, from the metadata of Hugging Face datasets."""
    try:
        content = read_own_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
        return {
            str(column): tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError):
        return {}
