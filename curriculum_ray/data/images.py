"""One image file, of any size, as a square of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DEFAULT_SIZE", "SUFFIXES", "list_failures", "read_square", "to_pixels"]

DEFAULT_SIZE = 32
SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)


def read_square(source: Path | IO[bytes], size: int) -> Image.Image:
    """Centre-crop and resize an image to `size`², upright, of mode L or RGB; Pillow's errors pass through.

    Transparent pixels are laid over white: the colour that a file hides behind them is an accident of its writer.
    Pillow's limit against decompression bombs holds.
    """
    from PIL import Image, ImageOps

    with Image.open(source) as image:
        # Pillow clips 16- and 32-bit grey to 255 when it converts them.
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode}")
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("1", "L", "LA")
        if "A" in upright.getbands() or "transparency" in upright.info:
            colours = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
        return ImageOps.fit(upright.convert("L" if grey else "RGB"), (size, size), Image.Resampling.LANCZOS)


def to_pixels(image: Image.Image, channels: int) -> Tensor:
    """uint8, shape (channels, H, W)."""
    import numpy

    pixels = numpy.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1)


def list_failures(failed: list[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"{', '.join(failed[:3])}{more}"
