"""A data set held in memory as one tensor of items in [-1, 1], with a fingerprint of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.summary import DataSummary

__all__ = ["Dataset", "from_uint8", "is_image", "to_uint8"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All items of a data set.

    items: float32, about [-1, 1], shape (N, *shape): images (C, H, W), signals (C, L), point sets (D, P) or single
    vectors (D,). condition: what a network may be told of each item, shape (N, ...), or None; see `conditioning`.
    class_names: of long labels (N,) in 0 .. len(class_names)-1. vocabulary: of long captions (N, L), where entry 0
    is padding; captions encoded beforehand are float (N, L, D). heldout: items of the same kind that are none of these
    and that nothing is trained on; see `hold_out`.
    """

    name: str
    items: Tensor
    condition: Tensor | None = None
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    heldout: Dataset | None = None
    summary: DataSummary | None = None
    """What was found and what of it is used, where the data was read by `load_data`."""

    def __post_init__(self) -> None:
        assert 2 <= self.items.ndim <= 4
        assert self.items.dtype == torch.float32
        assert self.condition is None or len(self.condition) == len(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item: (C, H, W) for images."""
        return tuple(self.items.shape[1:])

    @property
    def conditioning(self) -> Conditioning:
        """The kind and size of `condition`."""
        if self.condition is None:
            return NO_CONDITIONING
        if self.condition.ndim == 1:
            return Conditioning("class", len(self.class_names))
        if self.condition.ndim == 2:
            return Conditioning("tokens", len(self.vocabulary), self.condition.shape[1])
        return Conditioning("embedding", self.condition.shape[2], self.condition.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the items' bytes: the same values in the same order, whatever their source."""
        return hashlib.sha256(self.items.contiguous().numpy().data).hexdigest()


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether items of `shape` are images to look at: grey or colour, (1 or 3, H, W); latents have more channels."""
    return len(shape) == 3 and shape[0] in (1, 3)


def to_uint8(images: Tensor) -> Tensor:
    """Map images in [-1, 1] (clamped) to the nearest of 0 .. 255, uint8, same shape."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Map uint8 images in 0 .. 255 to float32 in [-1, 1], same shape; `to_uint8` undoes it exactly."""
    return images.to(torch.float32).div(127.5).sub(1)
