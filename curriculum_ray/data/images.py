"""A data set held in memory as one tensor of images in [-1, 1], with a fingerprint of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["ImageData", "from_uint8", "to_uint8"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """All images of a data set.

    images: float32 in [-1, 1], shape (N, C, H, W). labels: long in 0 .. num_classes-1, shape (N,), or None.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.images.ndim == 4
        assert self.images.dtype == torch.float32
        assert self.labels is None or self.labels.shape == self.images.shape[:1]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None where images have no labels."""
        return None if self.labels is None else len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the images' bytes: the same pixels in the same order, whatever their source."""
        return hashlib.sha256(self.images.contiguous().numpy().data).hexdigest()


def to_uint8(images: Tensor) -> Tensor:
    """Map images in [-1, 1] (clamped) to the nearest of 0 .. 255, uint8, same shape."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Map uint8 images in 0 .. 255 to float32 in [-1, 1], same shape; `to_uint8` undoes it exactly."""
    return images.to(torch.float32).div(127.5).sub(1)
