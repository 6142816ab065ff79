"""Which column, key or member holds images, captions and labels: the one a person names, or a usual name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curriculum_ray.config import ConfigError

__all__ = [
    "CAPTION_NAMES",
    "IMAGE_NAMES",
    "LABEL_NAMES",
    "SHARD_CAPTIONS",
    "class_names",
    "pick",
    "pick_by_alias",
]

CAPTION_NAMES = ("text", "caption", "TEXT", "Text", "Caption", "CAPTION", "captions", "prompt", "description")
"""Usual names of captions, the first that is there is read."""
SHARD_CAPTIONS = ("caption", "text", *CAPTION_NAMES[2:])
"""The same in shards, where `caption` comes first."""
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
    wish: str | None, names: Sequence[str], usual: Sequence[str], setting: str, place: str
) -> str | None:
    """The name that is read: `wish`, which must be there, else the first usual one, or None."""
    if wish is not None:
        if wish not in names:
            listed = ", ".join(names[:20]) or "none"
            raise ConfigError(
                f"{setting} must be a column or key of {place}, but got {wish}: it has {listed}"
            )
        return wish
    return next((name for name in usual if name in names), None)


def pick_by_alias(
    wish: str | None, names: Sequence[str], usual: Sequence[str], setting: str, place: str
) -> tuple[str | None, str]:
    """`pick`, and a note that names both where two usual names are there."""
    found = pick(wish, names, usual, setting, place)
    others = [name for name in usual if name in names and name != found]
    if wish is None and found is not None and others:
        return found, f"{found} is read and not {', '.join(others)}, which {place} has too: {setting} chooses"
    return found, ""


def class_names(schema: Any) -> Mapping[str, tuple[str, ...]]:
    """The names that Hugging Face datasets gives the numbers of each column of type ClassLabel, from its metadata."""
    try:
        content = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
        return {
            str(column): tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, TypeError, ValueError):
        return {}
