"""A contact sheet of items with their labels or captions, to see what will be trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from curriculum_ray.evaluation.draw import picture
from tuning.figures.theme import LIGHT

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["contact_sheet"]

_CELL, _GAP, _LINE, _LINES = 96, 8, 13, 2
_LONGEST = 400
"""Most characters of a text that are measured; apart from those without width, a cell's line holds fewer."""


def contact_sheet(items: Tensor, texts: Sequence[str], columns: int = 8) -> bytes:
    """Items of any shape (see `draw.picture`), or uint8 images, as a PNG: each above its caption."""
    from PIL import Image, ImageDraw

    pictures = picture(items)
    count = len(pictures)
    columns = min(columns, count)
    rows = -(-count // columns)
    lines = _LINES if any(texts) and count == len(texts) else 0
    width, height = _CELL + _GAP, _CELL + _GAP + lines * _LINE
    sheet = Image.new("RGB", (_GAP + columns * width, _GAP + rows * height), LIGHT.ground)
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, pixels in enumerate(pictures):
        left, top = _GAP + index % columns * width, _GAP + index // columns * height
        cell = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
        side = max(cell.size)
        size = (max(1, cell.width * _CELL // side), max(1, cell.height * _CELL // side))
        sheet.paste(cell.resize(size, Image.Resampling.NEAREST), (left, top))
        for number, line in enumerate(_wrapped(texts[index], lines, font) if lines else ()):
            draw.text((left, top + _CELL + 1 + number * _LINE), line, fill=LIGHT.ink, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _font() -> FreeTypeFont:
    """Return a font that is included in matplotlib and covers many scripts."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 10)


def _wrapped(text: str, most: int, font: FreeTypeFont) -> list[str]:
    """Wrap `text` to at most `most` lines of a cell's width, truncated if it is longer."""
    lines: list[str] = []
    # The time to measure a text grows with its length: measure only the part that could fit.
    rest = " ".join(text[:_LONGEST].split())
    while rest and len(lines) < most:
        fits = len(rest)
        while fits > 1 and font.getlength(rest[:fits]) > _CELL:
            fits -= 1
        if fits < len(rest) and len(lines) < most - 1 and " " in rest[:fits]:
            fits = rest.rindex(" ", 0, fits)
        elif fits < len(rest) and len(lines) == most - 1:
            lines.append(f"{rest[: max(1, fits - 1)]}…")
            break
        lines.append(rest[:fits])
        rest = rest[fits:].strip()
    return lines
