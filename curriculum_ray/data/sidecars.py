"""Captions in a text file beside each image, .txt or .caption, as in kohya-style trainers and img2dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.data.columns import CAPTION_NAMES
from curriculum_ray.data.text import canonical_path, lines, parse_json, read_text

__all__ = ["SIDECARS", "Sidecars", "find_sidecars", "read_sidecars"]

SIDECARS = (".txt", ".caption")
_BOX = re.compile(r"(?:[-+]?[\d.]+(?:[eE][-+]?\d+)?[\s,]*){4,}")
"""A line of numbers, e.g. a bounding box."""


@dataclass(frozen=True)
class Sidecars:
    """Captions from files of one suffix, by the image's path within the data."""

    suffix: str
    captions: Mapping[str, str]


def find_sidecars(
    files: Sequence[Path], images: Sequence[Path], suffixes: Sequence[str]
) -> dict[str, dict[Path, Path]]:
    """Find the file beside each image, by lower-case suffix: a.txt or a.png.txt beside a.png."""
    by_stem: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        if (suffix := path.suffix.lower()) in suffixes:
            by_stem.setdefault((path.parent, path.stem), {}).setdefault(suffix, path)
    found: dict[str, dict[Path, Path]] = {}
    for image in images:
        for name in (image.stem, image.name):
            for suffix, path in by_stem.get((image.parent, name), {}).items():
                found.setdefault(suffix, {}).setdefault(image, path)
    return found


def read_sidecars(root: Path, suffix: str, found: Mapping[Path, Path]) -> Sidecars | None:
    """Read sidecar files; None if all lines are bounding boxes, or if a .json file has no caption."""
    captions: dict[str, str] = {}
    for image, path in found.items():
        try:
            text = read_text(path).strip()
            if suffix == ".json":
                values = parse_json(text)
                keys = [key for key in CAPTION_NAMES if isinstance(values, dict) and key in values]
                if not keys or not isinstance(values[keys[0]], str | None):
                    return None
                text = values[keys[0]] or ""
        except (OSError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path} must hold the caption of {image.name}, but: {reason}") from None
        captions[canonical_path(image.relative_to(root).as_posix())] = text
    texts = [text for text in captions.values() if text]
    if suffix == ".txt" and texts and all(_BOX.fullmatch(line) for text in texts for _, line in lines(text)):
        return None
    return Sidecars(suffix, captions)
