"""One image file as a square: transparency lies over white, and no file starts another program."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from curriculum_ray.data.images import read_header, read_square
from curriculum_ray.data.suffixes import FORMATS, SUFFIXES
from tests.data.folders import refused

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%Pages: 1\nshowpage\n%%EOF\n"


def within_iptc(content: bytes) -> bytes:
    """A file of IPTC around another image, 16 x 16 pixels and grey by its fields."""
    side = (16).to_bytes(2)
    fields = {
        (3, 20): side,
        (3, 30): side,
        (3, 60): b"\x01\x00",  # one layer
        (3, 120): b"\x05",  # packed as JPEG
        (8, 10): content,
    }
    return b"".join(b"\x1c" + bytes(tag) + len(each).to_bytes(2) + each for tag, each in fields.items())


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


@pytest.mark.parametrize("content", [EPS, within_iptc(EPS)], ids=["PostScript", "PostScript within IPTC"])
def test_what_pillow_would_hand_to_ghostscript_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    program, folder, started = tmp_path / "gs", tmp_path / "images", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    folder.mkdir()
    (folder / "a.jpg").write_bytes(content)
    refused(folder, r"1 of 1 cannot be read: a\.jpg \(UnidentifiedImageError\)")
    assert not started.exists()
    with pytest.raises(UnidentifiedImageError):
        read_header(folder / "a.jpg")


def test_the_formats_that_are_read_are_those_of_the_suffixes() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES if suffix in known} == {*FORMATS} & {*Image.OPEN}
