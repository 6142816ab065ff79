"""Captions of a folder of images, in one file beside them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError

__all__ = ["caption_images", "read_captions"]

_LINES, _WHOLE = "metadata.jsonl", "captions.json"


def read_captions(root: Path) -> dict[str, str]:
    """Captions by file name from `metadata.jsonl` (keys file_name, text or caption) or `captions.json`, if present."""
    present = [root / name for name in (_LINES, _WHOLE) if (root / name).exists()]
    if len(present) > 1:
        raise ConfigError(f"{root} must hold {_LINES} or {_WHOLE}, but has both")
    if not present:
        return {}
    path = present[0]
    captions: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8")
        for place, name, caption in _by_line(text) if path.name == _LINES else _whole(text):
            if not isinstance(name, str) or not isinstance(caption, str):
                wrong = name if not isinstance(name, str) else caption
                raise ConfigError(
                    f"{path} must map file names to captions, both strings, but {place} has {wrong!r}"
                )
            if name in captions:
                raise ConfigError(f"{path} must hold each file name once, but has {name} twice")
            captions[name] = caption
    except ConfigError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} must map file names to captions, but: {type(error).__name__} {reason}"
        ) from None
    return captions


def caption_images(root: Path, paths: list[Path], kept: list[Path], captions: dict[str, str]) -> list[str]:
    """The caption of each image `kept` of all in `paths`; one without is told nothing, and counted in a warning.

    Raises `ConfigError` where no caption names an image.
    """
    names = [path.relative_to(root).as_posix() for path in kept]
    alone = sorted(set(captions) - {path.relative_to(root).as_posix() for path in paths})
    if len(alone) == len(captions):
        raise ConfigError(
            f"the captions of {root} must name its images, but none does: "
            f"the first names {alone[0]}, the first image is {names[0]}"
        )
    silent = [name for name in names if name not in captions]
    parts = []
    if silent:
        parts.append(f"{len(silent)} of {len(names)} images have no caption, the first {silent[0]}")
    if alone:
        parts.append(f"{len(alone)} of {len(captions)} captions have no image, the first {alone[0]}")
    if parts:
        warnings.warn(f"captions of {root}: {'; '.join(parts)}", stacklevel=3)
    return [captions.get(name, "") for name in names]


def _by_line(text: str) -> Iterator[tuple[str, Any, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = json.loads(line)
            yield f"line {number}", row["file_name"], row["text"] if "text" in row else row["caption"]


def _whole(text: str) -> Iterator[tuple[str, Any, Any]]:
    # Pairs, since an object would keep the last of two captions of one name.
    for name, caption in json.loads(text, object_pairs_hook=list):
        yield f"key {name}", name, caption
