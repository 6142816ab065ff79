"""Image files of any size as squares of pixels."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from curriculum_ray.data.suffixes import FORMATS
from curriculum_ray.data.summary import ImageStats

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "DEFAULT_SIZE",
    "Header",
    "ImageTally",
    "Square",
    "is_encoded_image",
    "list_failures",
    "read_header",
    "read_square",
    "to_pixels",
    "to_square",
]

DEFAULT_SIZE = 32
_FIRST_BYTES = 4096
# First bytes of the usual formats: an image may lack its suffix.
_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"qoif",
)
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")


@dataclass(frozen=True)
class Square:
    """An image as a square, with facts about its file."""

    image: Image.Image
    """Mode L or RGB."""
    size: tuple[int, int]
    """Width and height of the upright image, in pixels."""
    mode: str
    digest: str
    """SHA-256 (hex) of the file's bytes."""
    animated: bool


@dataclass(frozen=True)
class Header:
    """An image by the first bytes of its file."""

    bytes: int
    """Of the whole file."""
    grey: bool
    """Whether its square has the mode L."""
    digest: str
    """SHA-256 (hex) of the first bytes."""


def read_header(path: Path) -> Header:
    """Read the first bytes of an image; Pillow's errors pass through."""
    with open(path, "rb") as file:
        start = file.read(_FIRST_BYTES)
        file.seek(0)
        with _opened(file) as image:
            grey = _is_grey(image)
        return Header(os.fstat(file.fileno()).st_size, grey, hashlib.sha256(start).hexdigest())


def _opened(file: IO[bytes]) -> Image.Image:
    """Identify an image by its first bytes, whatever its suffix; other formats than `FORMATS` are no images."""
    from PIL import Image

    return Image.open(file, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()  # loads all formats; older releases of Pillow lack some
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_grey(image: Image.Image) -> bool:
    # Pillow clips 16- and 32-bit grey to 255 when it converts them.
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}")
    return image.mode in ("1", "L", "LA")


def read_square(source: Path | IO[bytes], size: int) -> Image.Image:
    """Turn an image upright, centre-crop and resize it to `size`² pixels of mode L or RGB.

    Transparency is composited over white: the hidden colour is an accident of the program that wrote the
    file. Pillow's errors pass through; its limit against decompression bombs applies.
    """
    return to_square(source.read_bytes() if isinstance(source, Path) else source.read(), size).image


def to_square(content: bytes, size: int) -> Square:
    """Like `read_square`, from a file's bytes and with facts about the file."""
    from PIL import Image, ImageOps

    with _opened(io.BytesIO(content)) as image:
        mode, animated = image.mode, bool(getattr(image, "is_animated", False))
        grey = _is_grey(image)
        upright = ImageOps.exif_transpose(image)
        before = upright.size
        if "A" in upright.getbands() or "transparency" in upright.info:
            colours = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
        square = ImageOps.fit(upright.convert("L" if grey else "RGB"), (size, size), Image.Resampling.LANCZOS)
    return Square(square, before, mode, hashlib.sha256(content).hexdigest(), animated)


class ImageTally:
    """Counts sizes, modes and repeated contents of images, without keeping their pixels."""

    def __init__(self) -> None:
        self._sizes: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        """The first name of each content."""
        self._pair: tuple[str, ...] = ()
        self._repeated = self._animated = self._count = 0

    def add(self, name: str, square: Square) -> None:
        """Count an image; `name`, its own, serves for the example of a repeated content."""
        self._count += 1
        self._sizes["x".join(map(str, square.size))] += 1
        self._modes[square.mode] += 1
        self._animated += square.animated
        other = self._first.setdefault(square.digest, name)
        if other != name:
            self._repeated += 1
            self._pair = self._pair or (other, name)

    @property
    def stats(self) -> ImageStats:
        """What was counted so far, the most frequent first."""
        sizes, modes = dict(self._sizes.most_common()), dict(self._modes.most_common())
        return ImageStats(self._count, sizes, modes, self._repeated, self._pair, self._animated)


def is_encoded_image(start: bytes) -> bool:
    """Return whether a file that starts with these bytes (32 are enough) is an image by its content."""
    riff = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(_STARTS) or riff or (start[4:8] == b"ftyp" and start[8:12] in _BRANDS)


def to_pixels(image: Image.Image, channels: int) -> Tensor:
    """Convert to uint8, shape (channels, H, W)."""
    import numpy

    pixels = numpy.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1)


def list_failures(failed: Sequence[str]) -> str:
    """Join the first three names, and say how many more there are."""
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"{', '.join(failed[:3])}{more}"
