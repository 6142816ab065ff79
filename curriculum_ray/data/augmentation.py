"""Random flips and shifts of training images, a function of the seed and of an image's place in the global stream."""

from __future__ import annotations

import torch
from torch import Tensor

from curriculum_ray.data.batches import Batches
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.splitmix import mix_each

__all__ = ["AugmentedBatches", "augmented", "flip_and_crop"]

_STREAM = 0xF11C
"""Sets these draws apart from others of the same seed."""


def augmented(batches: Batches, spec: DataSpec, seed: int) -> Batches:
    """`batches` with the flips and crops of `spec`; unchanged where it has none."""
    return AugmentedBatches(batches, spec.flip, spec.crop or 0, seed) if spec.flip or spec.crop else batches


class AugmentedBatches:
    """Mirrors each image with probability 1/2 if `flip`, and shifts it by up to `padding` pixels in each direction.

    The draws of an image depend on (seed, its position in the global stream) only: they are the same at any world size,
    after a resume, and in every run of a seed, and another time an image is seen they are new.
    """

    def __init__(self, source: Batches, flip: bool, padding: int, seed: int) -> None:
        self._source, self._flip, self._padding, self._seed = source, flip, padding, seed

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See `Batches`."""
        items, condition = self._source.next(images, batch_size, rank, world_size, device)
        drawn = torch.from_numpy(
            mix_each((_STREAM, self._seed), range(images + rank, images + batch_size, world_size))
        )
        choices = 2 * self._padding + 1
        flips = (drawn & 1).bool() if self._flip else torch.zeros(len(drawn), dtype=torch.bool)
        shifts = torch.stack([(drawn >> 1 & 0x7FFFFFFF) % choices, (drawn >> 32) % choices]) - self._padding
        return flip_and_crop(items, flips.to(items.device), shifts.to(items.device)), condition


def flip_and_crop(items: Tensor, flips: Tensor, shifts: Tensor) -> Tensor:
    """Crop images (B, C, H, W) that are padded by reflection, then mirror those of `flips`, bool (B,), left to right.

    shifts: where the crops begin below and right of the images, long (2, B), less than H and W in absolute value.
    """
    batch, channels, height, width = items.shape
    device = items.device
    rows = _reflected(torch.arange(height, device=device) + shifts[0][:, None], height)
    columns = _reflected(torch.arange(width, device=device) + shifts[1][:, None], width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    place = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return items[place, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _reflected(places: Tensor, length: int) -> Tensor:
    """Reflect places beyond 0 .. length-1 at the ends, which are not repeated."""
    return length - 1 - (length - 1 - places.abs()).abs()
