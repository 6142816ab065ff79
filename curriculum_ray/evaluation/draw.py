"""Signals, points and latents as small images, drawn pixel by pixel."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

__all__ = ["picture"]

_SIDE = 48
_GROUND, _INK, _AXIS = 255, 30, 215
_FEW = 500


def _to_pixel(values: Tensor, low: float, high: float) -> Tensor:
    """Map [low, high] to the pixels 1 .. side-2, clamped; long."""
    share = (values.double() - low) / max(high - low, 1e-12)
    return (1 + share.clamp(0, 1) * (_SIDE - 3)).round().long()


def _signals(samples: Tensor) -> Tensor:
    """Draw line plots of (n, C, L), all channels in one plot, between -1.1 and 1.1."""
    count, _, length = samples.shape
    cells = torch.full((count, _SIDE, max(_SIDE, length)), _GROUND, dtype=torch.uint8)
    cells[:, _SIDE // 2] = _AXIS
    width = cells.shape[2]
    line = torch.nn.functional.interpolate(samples.float(), width, mode="linear", align_corners=True)
    row = _SIDE - 1 - _to_pixel(line, -1.1, 1.1)
    # Connect each column's value to the next, so that steep slopes stay continuous.
    next_row = torch.cat([row[:, :, 1:], row[:, :, -1:]], dim=2)
    low, high = torch.minimum(row, next_row), torch.maximum(row, next_row)
    rows = torch.arange(_SIDE)[:, None]
    inked = ((rows >= low[:, :, None, :]) & (rows <= high[:, :, None, :])).any(1)
    return cells.masked_fill(inked, _INK)[:, None]


def _points(samples: Tensor) -> Tensor:
    """Draw scatter plots of point sets (n, D, P) by their first two coordinates, between -1.25 and 1.25."""
    count, _, points = samples.shape
    cells = torch.full((count, _SIDE, _SIDE), _GROUND, dtype=torch.uint8)
    column = _to_pixel(samples[:, 0], -1.25, 1.25)
    row = _SIDE - 1 - _to_pixel(samples[:, 1], -1.25, 1.25)
    item = torch.arange(count)[:, None].expand(-1, points)
    cells[item, row, column] = _INK
    return cells[:, None]


def _one_scatter(samples: Tensor, side: int = 320) -> Tensor:
    """Draw all vectors (n, D) in one scatter plot of their first two coordinates, between -1.25 and 1.25.

    Many are small and grow darker where they lie upon each other.
    """
    size, depth = (4, 1) if len(samples) <= _FEW else (2, 3)
    cell = torch.zeros(side, side)
    y = samples[:, 1] if samples.shape[1] > 1 else torch.zeros(len(samples))
    column = ((samples[:, 0].double() + 1.25) / 2.5 * (side - 1)).round().clamp(0, side - 1).long()
    row = side - 1 - ((y.double() + 1.25) / 2.5 * (side - 1)).round().clamp(0, side - 1).long()
    for step_x, step_y in itertools.product(range(size), repeat=2):
        place = ((row + step_y).clamp(max=side - 1), (column + step_x).clamp(max=side - 1))
        cell.index_put_(place, torch.ones(len(samples)), accumulate=True)
    return (_GROUND - (cell.clamp(max=depth) / depth * (_GROUND - _INK))).to(torch.uint8)[None, None]


def picture(samples: Tensor) -> Tensor:
    """Convert samples of any shape to uint8 images (m, 1 or 3, H, W) for `make_grid`.

    Images are returned unchanged; signals (n, C, L) with C other than 2 or 3 become line plots, point sets
    (n, 2 or 3, P) scatter plots, vectors (n, D) one scatter plot, latents (n, C, H, W) grey images of the
    channels' mean in [-2, 2].
    """
    samples = samples.cpu()
    if samples.dtype == torch.uint8:
        return samples
    if samples.ndim == 2:
        return _one_scatter(samples)
    if samples.ndim == 3:
        return _points(samples) if samples.shape[1] in (2, 3) else _signals(samples)
    grey = samples.float().mean(1, keepdim=True)
    return grey.div(2).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
