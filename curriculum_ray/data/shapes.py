"""Rendered shapes with classes and captions: text conditioning that runs offline in seconds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.text_encoder import condition_from_captions

__all__ = ["SHAPE_COUNT", "SHAPE_KINDS", "load_shapes"]

SHAPE_COUNT = 8_192
SHAPE_KINDS = ("circle", "square", "triangle", "diamond", "cross", "ring")
_COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 70),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 50),
    "purple": (150, 60, 190),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
_SIZES = {"small": (0.22, 0.30), "large": (0.42, 0.55)}


def _distance(x: Tensor, y: Tensor, kind: Tensor) -> Tensor:
    """Approximate signed distance to the unit shape of each `kind`, negative inside; x, y: (N, H, W)."""
    radius = (x.square() + y.square()).sqrt()
    square = torch.maximum(x.abs(), y.abs()) - 0.85
    # The triangle's three sides have outward normals 120 degrees apart.
    triangle = torch.stack([y, 0.866 * x - 0.5 * y, -0.866 * x - 0.5 * y]).amax(0) - 0.55
    diamond = (x.abs() + 0.6 * y.abs()) / 1.166 - 0.55
    bars = [
        torch.maximum(x.abs() - 0.3, y.abs() - 1),
        torch.maximum(y.abs() - 0.3, x.abs() - 1),
    ]
    every = torch.stack(
        [radius - 1, square, triangle, diamond, torch.minimum(*bars), (radius - 0.75).abs() - 0.25]
    )
    return every.gather(0, kind[None, :, None, None].expand(1, *x.shape))[0]


def load_shapes(
    size: int = 16,
    conditioning: Literal["class", "text", "none"] = "class",
    text_encoder: str | None = None,
) -> Dataset:
    """Return 8,192 anti-aliased shapes (8192, 3, size, size) of varying kind, size, place, tilt and colours.

    The condition is the kind, a caption such as "a small red circle on blue", or none. text_encoder: the path
    of the encoder that embeds the captions.
    """
    import numpy

    # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): the shapes never change.
    source = numpy.random.RandomState(0)
    kind = source.randint(len(SHAPE_KINDS), size=SHAPE_COUNT)
    extent = source.randint(len(_SIZES), size=SHAPE_COUNT)
    front = source.randint(len(_COLOURS), size=SHAPE_COUNT)
    # Never the colour of the shape itself.
    back = (front + 1 + source.randint(len(_COLOURS) - 1, size=SHAPE_COUNT)) % len(_COLOURS)
    share, place_x, place_y, tilt = torch.from_numpy(source.random_sample((4, SHAPE_COUNT, 1, 1)))
    low, high = torch.tensor(list(_SIZES.values()), dtype=torch.float64)[torch.from_numpy(extent)].unbind(1)
    scale = low[:, None, None] + (high - low)[:, None, None] * share
    room = 0.95 - scale
    angle = (tilt - 0.5) * 0.6
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    x, y = x - (place_x * 2 - 1) * room, y - (place_y * 2 - 1) * room
    x, y = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    distance = _distance(x / scale, y / scale, torch.from_numpy(kind)) * scale
    cover = (0.5 - distance * size / 2).clamp(0, 1)[:, None]
    palette = torch.tensor(list(_COLOURS.values()), dtype=torch.float64)[..., None, None]
    pixels = palette[torch.from_numpy(front)] * cover + palette[torch.from_numpy(back)] * (1 - cover)
    items = pixels.round().to(torch.uint8)
    if conditioning == "class":
        return Dataset("shapes", items, torch.from_numpy(kind).long(), SHAPE_KINDS)
    if conditioning == "none":
        return Dataset("shapes", items)
    colours, sizes = list(_COLOURS), list(_SIZES)
    captions = [
        f"a {sizes[e]} {colours[f]} {SHAPE_KINDS[k]} on {colours[b]}"
        for e, f, k, b in zip(extent, front, kind, back, strict=True)
    ]
    condition, vocabulary = condition_from_captions(captions, text_encoder)
    kept = tuple(captions) if text_encoder is not None else ()
    return Dataset("shapes", items, condition, vocabulary=vocabulary, captions=kept)
