"""A folder of image files of any size as square images; sub folders, if there are any, are the classes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, from_uint8

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DEFAULT_SIZE", "load_folder"]

DEFAULT_SIZE = 32
SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)


def load_folder(folder: str | Path, *, size: int | None = None, channels: int | None = None) -> Dataset:
    """Read every image under `folder`, in the order of its sorted paths; centre-crop and resize to `size`².

    size: side in pixels, 32 if None. channels: 1 grey or 3 colour; None is 1 if all files are grey, else 3.
    Files with other suffixes than an image's and hidden files are passed over. Images that cannot be
    read, none at all, and images beside class folders raise `ConfigError`.
    """
    root = Path(folder)
    paths = _image_paths(root)
    if not paths:
        raise ConfigError(f"{root} must hold images ({', '.join(sorted(SUFFIXES))}), but has none")
    classes = _classes(root, paths)
    squares = _read_all(root, paths, size or DEFAULT_SIZE)
    if channels is None:
        channels = 1 if all(square.mode == "L" for square in squares) else 3
    pixels = torch.stack([_pixels(square, channels) for square in squares])
    labels = None
    names = tuple(sorted(set(classes)))
    if len(names) > 1:
        index = {name: label for label, name in enumerate(names)}
        labels = torch.tensor([index[name] for name in classes])
    return Dataset(
        name=root.resolve().name,
        items=from_uint8(pixels),
        condition=labels,
        class_names=names if labels is not None else (),
    )


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


def _read_all(root: Path, paths: list[Path], size: int) -> list[Image.Image]:
    """Read each image as a square of mode L or RGB; name those that cannot be read in one `ConfigError`."""

    def read(path: Path) -> Image.Image | Exception:
        try:
            return _read(path, size)
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            return error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        squares = list(pool.map(read, paths))
    readable = [square for square in squares if not isinstance(square, Exception)]
    if len(readable) < len(paths):
        failed = [
            f"{path.relative_to(root)} ({type(square).__name__})"
            for path, square in zip(paths, squares, strict=True)
            if isinstance(square, Exception)
        ]
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise ConfigError(
            f"{root} must hold readable images of 8 bits per channel, but {len(failed)} of {len(paths)} "
            f"cannot be read: {', '.join(failed[:3])}{more}"
        )
    return readable


def _read(path: Path, size: int) -> Image.Image:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        # Pillow clips 16- and 32-bit grey to 255 when it converts them.
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode}")
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("1", "L", "LA")
        return ImageOps.fit(upright.convert("L" if grey else "RGB"), (size, size), Image.Resampling.LANCZOS)


def _pixels(image: Image.Image, channels: int) -> Tensor:
    """uint8, shape (channels, H, W)."""
    import numpy

    pixels = numpy.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1)
