"""A grid of samples as one image."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from curriculum_ray.evaluation.draw import picture
from curriculum_ray.files import replace_file

__all__ = ["grid_png", "make_grid", "save_grid"]

_CELL = 48
_BACKGROUND = 64


def make_grid(samples: Tensor, columns: int | None = None, cell: int = _CELL) -> Tensor:
    """Arrange `samples` (n, C, H, W), uint8, in rows; returns one uint8 image (C, height, width).

    Small images are enlarged, without interpolation, by the integer factor that brings their longer side to
    about `cell` pixels, on a grey background. By default, `columns` makes the grid nearly square.
    """
    count, _, height, width = samples.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    factor = max(1, round(cell / max(height, width)))
    gap = max(2, factor // 2)
    cells = samples.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    cells = pad(cells, (0, gap, 0, gap), value=_BACKGROUND)
    rows = math.ceil(count / columns)
    blank = torch.full((rows * columns - count, *cells.shape[1:]), _BACKGROUND, dtype=torch.uint8)
    cells = torch.cat([cells, blank]).unflatten(0, (rows, columns))
    grid = cells.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return pad(grid, (gap, 0, gap, 0), value=_BACKGROUND)


def save_grid(samples: Tensor, path: str | Path, count: int = 64, columns: int | None = None) -> None:
    """Write `grid_png` of the first `count` of `samples`, and create its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(path), grid_png(samples, count, columns), durable=False)


def grid_png(samples: Tensor, count: int = 64, columns: int | None = None) -> bytes:
    """Return the first `count` of `samples` as a PNG: uint8 images (n, 1 or 3, H, W), or floats of any shape.

    See `draw.picture` for signals, points and latents; single vectors are all drawn in one plot.
    """
    from PIL import Image

    shown = samples if samples.ndim == 2 else samples[:count]
    grid = make_grid(picture(shown), columns)
    image = grid[0] if len(grid) == 1 else grid.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(image.contiguous().numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
