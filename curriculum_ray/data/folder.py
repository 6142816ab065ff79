"""A folder of image files of any size as square images; sub folders, if there are any, are the classes."""

from __future__ import annotations

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, from_uint8
from curriculum_ray.data.images import DEFAULT_SIZE, list_failures, read_square, to_pixels
from curriculum_ray.data.text_encoder import told_by_captions

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_folder"]

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)


def load_folder(
    folder: str | Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    conditioning: Literal["class", "text", "none"] | None = None,
    corrupt: Literal["refuse", "skip"] = "refuse",
    text_encoder: str | None = None,
) -> Dataset:
    """Read every image under `folder`, in the order of its sorted paths; centre-crop and resize to `size`².

    size: side in pixels, 32 if None. channels: 1 grey or 3 colour; None is 1 if all files are grey, else 3.
    conditioning: None takes the sub folders as classes, or else the captions of metadata.jsonl or captions.json.
    text_encoder: the path of one that reads the captions.
    Files with other suffixes than an image's and hidden files are passed over. Images that cannot be read raise
    `ConfigError`, or are left out with one warning where `corrupt` is skip; none at all, and images beside class
    folders, raise `ConfigError`.
    """
    root = Path(folder)
    paths = _image_paths(root)
    if not paths:
        raise ConfigError(f"{root} must hold images ({', '.join(sorted(SUFFIXES))}), but has none")
    paths, squares = _read_all(root, paths, size or DEFAULT_SIZE, corrupt)
    if channels is None:
        channels = 1 if all(square.mode == "L" for square in squares) else 3
    items = from_uint8(torch.stack([to_pixels(square, channels) for square in squares]))
    name = root.resolve().name
    captions = _captions(root) if conditioning in (None, "text") else {}
    if conditioning == "text" and not captions:
        raise ConfigError(f"{root} must hold captions in metadata.jsonl or captions.json, but has none")
    if conditioning in (None, "class") and not (captions and _in_itself(root, paths)):
        classes = _classes(root, paths)
        names = tuple(sorted(set(classes)))
        if len(names) > 1:
            index = {name: label for label, name in enumerate(names)}
            return Dataset(name, items, torch.tensor([index[name] for name in classes]), names)
        if conditioning == "class":
            raise ConfigError(f"{root} must hold two or more class folders, but has {len(names)}")
    if captions:
        texts = [captions.get(path.relative_to(root).as_posix(), "") for path in paths]
        condition, vocabulary = told_by_captions(texts, text_encoder)
        return Dataset(name, items, condition, vocabulary=vocabulary)
    return Dataset(name, items)


def _in_itself(root: Path, paths: list[Path]) -> bool:
    return any(path.parent == root for path in paths)


def _captions(root: Path) -> dict[str, str]:
    """Captions by file name from `metadata.jsonl` (keys file_name, text or caption) or `captions.json`, if present."""
    lines, whole = root / "metadata.jsonl", root / "captions.json"
    path = lines if lines.exists() else whole
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if path == lines:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            pairs = {row["file_name"]: row["text"] if "text" in row else row["caption"] for row in rows}
        else:
            pairs = dict(json.loads(text))
        return {str(key): str(value) for key, value in pairs.items()}
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} must map file names to captions, but: {type(error).__name__} {reason}"
        ) from None


def _image_paths(root: Path) -> list[Path]:
    """Every image file under `root`, links to folders followed, sorted by path."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"{error.filename} cannot be listed: {error.strerror}")

    found = []
    for parent, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def _classes(root: Path, paths: list[Path]) -> list[str]:
    """The name of the sub folder of `root` that each image is in, or nothing where none is in one."""
    nested = [path.relative_to(root).parts[0] for path in paths if path.parent != root]
    if nested and len(nested) < len(paths):
        raise ConfigError(
            f"{root} must hold its images either all in class folders or all in itself, "
            f"but {len(nested)} of {len(paths)} are in folders"
        )
    return nested


def _read_all(
    root: Path, paths: list[Path], size: int, corrupt: Literal["refuse", "skip"]
) -> tuple[list[Path], list[Image.Image]]:
    """Each readable image as a square of mode L or RGB, and its path; the others are named, all in one line."""

    def read(path: Path) -> Image.Image | Exception:
        try:
            return read_square(path, size)
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        squares = list(pool.map(read, paths))
    kept, readable, failed = [], [], []
    for path, square in zip(paths, squares, strict=True):
        if isinstance(square, Exception):
            failed.append(f"{path.relative_to(root)} ({type(square).__name__})")
        else:
            kept.append(path)
            readable.append(square)
    if failed:
        what = f"{len(failed)} of {len(paths)} cannot be read: {list_failures(failed)}"
        if corrupt == "refuse" or not readable:
            raise ConfigError(f"{root} must hold readable images of 8 bits per channel, but {what}")
        warnings.warn(f"images of {root} were skipped: {what}", stacklevel=3)
    return kept, readable
