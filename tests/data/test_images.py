"""One image file as a square: transparency lies over white, whatever colour is hidden behind it."""

from __future__ import annotations

import io

import numpy
import pytest
from PIL import Image

from curriculum_ray.data.images import read_square


def through_png(image: Image.Image, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    buffer.seek(0)
    return read_square(buffer, 8)


def test_transparent_pixels_are_laid_over_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 2))
    image.paste((255, 0, 0, 128), (0, 2, 8, 4))
    pixels = numpy.asarray(through_png(image))
    assert pixels.shape == (8, 8, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[2, 0].tolist() == [255, 127, 127]
    assert (pixels[4:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    image = Image.new(mode, (8, 8), 0)
    key = (0, 0, 0) if mode == "RGB" else 0
    assert (numpy.asarray(through_png(image, transparency=key)) == 255).all()


def test_transparent_grey_stays_grey() -> None:
    image = Image.new("LA", (8, 8), (40, 255))
    image.paste((40, 0), (0, 4, 8, 8))
    square = through_png(image)
    assert square.mode == "L"
    assert numpy.asarray(square)[:, 0].tolist() == [40] * 4 + [255] * 4
