"""A folder of image files of any size as square images; sub folders, if there are any, are the classes."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data.captions import caption_images, read_captions
from curriculum_ray.data.dataset import Dataset, from_uint8
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE, has_embeddings, read_embeddings
from curriculum_ray.data.images import DEFAULT_SIZE, SUFFIXES, list_failures, read_square, to_pixels
from curriculum_ray.data.text_encoder import told_by_captions

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_folder"]

_NAMED = 100
"""Skipped images that are named; the rest is counted."""


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
    conditioning: None takes the sub folders as classes, or else the captions of embeddings.safetensors, encoded
    beforehand, or of metadata.jsonl or captions.json. text_encoder: the path of one that reads the latter.
    Files with other suffixes than an image's and hidden files are passed over. Images that cannot be read raise
    `ConfigError`, or are left out with one warning where `corrupt` is skip; none at all, images beside class
    folders, and class folders without any, raise `ConfigError`.
    """
    root = Path(folder)
    found = _image_paths(root)
    if not found:
        raise ConfigError(f"{root} must hold images ({', '.join(sorted(SUFFIXES))}), but has none")
    paths, squares = _read_all(root, found, size or DEFAULT_SIZE, corrupt)
    if channels is None:
        channels = 1 if all(square.mode == "L" for square in squares) else 3
    items = from_uint8(torch.stack([to_pixels(square, channels) for square in squares]))
    name = root.resolve().name
    captions = read_captions(root) if conditioning in (None, "text") else {}
    encoded = conditioning in (None, "text") and has_embeddings(root)
    captioned = bool(captions) or encoded
    if conditioning == "text" and not captioned:
        raise ConfigError(
            f"{root} must hold captions in metadata.jsonl, captions.json or {EMBEDDINGS_FILE}, but has none"
        )
    if conditioning in (None, "class") and not (captioned and _in_itself(root, paths)):
        classes = _classes(root, paths)
        names = tuple(sorted(set(classes)))
        if names and (len(names) > 1 or not captioned):
            _check_classes(root, found)
        if len(names) > 1:
            index = {name: label for label, name in enumerate(names)}
            return Dataset(name, items, torch.tensor([index[name] for name in classes]), names)
        if conditioning == "class":
            raise ConfigError(f"{root} must hold two or more class folders, but has {len(names)}")
    if encoded:
        within = [path.relative_to(root).as_posix() for path in paths]
        return Dataset(name, items, read_embeddings(root, within))
    if captions:
        texts = caption_images(root, found, paths, captions)
        condition, vocabulary = told_by_captions(texts, text_encoder)
        return Dataset(name, items, condition, vocabulary=vocabulary)
    return Dataset(name, items)


def _in_itself(root: Path, paths: list[Path]) -> bool:
    return any(path.parent == root for path in paths)


def _image_paths(root: Path) -> list[Path]:
    """Every image file under `root`, sorted by path; a folder is read once, however many links lead to it."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    # Links come last: a folder within `root` keeps its own name.
    starts = [root]
    while starts:
        links: list[Path] = []
        for start in starts:
            for parent, folders, files in os.walk(start, onerror=refuse):
                state = os.stat(parent)
                if (state.st_dev, state.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((state.st_dev, state.st_ino))
                folders[:] = [name for name in folders if not name.startswith(".")]
                links += [Path(parent, name) for name in folders if os.path.islink(Path(parent, name))]
                found += [Path(parent, name) for name in files if not name.startswith(".")]
        starts = sorted(links)
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def _folders(root: Path, paths: list[Path]) -> list[str]:
    """The name of the sub folder of `root` that each image is in, of those that are in one."""
    return [path.relative_to(root).parts[0] for path in paths if path.parent != root]


def _classes(root: Path, paths: list[Path]) -> list[str]:
    """The name of the sub folder of `root` that each image is in, or nothing where none is in one."""
    nested = _folders(root, paths)
    if nested and len(nested) < len(paths):
        raise ConfigError(
            f"{root} must hold its images either all in class folders or all in itself, "
            f"but {len(nested)} of {len(paths)} are in folders"
        )
    return nested


def _check_classes(root: Path, paths: list[Path]) -> None:
    """Refuse sub folders without an image, readable or not, where the others are classes."""
    filled = {path.relative_to(root).parts[0] for path in paths}
    empty = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir()
        and not entry.name.startswith(".")
        and entry.name not in filled
        # A link back up is no class.
        and not root.resolve().is_relative_to(entry.resolve())
    )
    if empty:
        raise ConfigError(
            f"{root} must hold images in each of its class folders, but {list_failures(empty)} "
            f"{'have' if len(empty) > 1 else 'has'} none (data.conditioning none makes no classes)"
        )


def _read_all(
    root: Path, paths: list[Path], size: int, corrupt: Literal["refuse", "skip"]
) -> tuple[list[Path], list[Image.Image]]:
    """Each readable image as a square of mode L or RGB, and its path; the others are named."""

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
        what = f"{len(failed)} of {len(paths)} cannot be read"
        if corrupt == "refuse" or not readable:
            raise ConfigError(
                f"{root} must hold readable images of 8 bits per channel, but {what}: {list_failures(failed)}"
            )
        gone = sorted({*_folders(root, paths)} - {*_folders(root, kept)})
        if gone:
            what = f"{what}, which leaves none in {list_failures(gone)}"
        names = "\n".join(failed[:_NAMED])
        more = f"\nand {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        warnings.warn(f"images of {root} were skipped: {what}:\n{names}{more}", stacklevel=3)
    return kept, readable
