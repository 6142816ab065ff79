"""A data set in memory: one tensor of items, images as bytes, with a fingerprint of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from curriculum_ray.data.conditioning import Conditioning, conditioning_of
from curriculum_ray.data.summary import DataSummary

__all__ = ["Dataset", "LatentShape", "as_float", "from_uint8", "is_image", "to_uint8"]

_PART = 1024
"""Items that are float32 at a time where all of them are read."""


class LatentShape(tuple[int, ...]):
    """The shape of a latent, (C, H, W), which is no image, however many channels it has.

    It equals the plain tuple, and travels wherever a shape does, so that latents are neither clipped nor made bytes.
    """


@dataclass(frozen=True, eq=False)
class Dataset:
    """All items of a data set.

    stored: shape (N, *shape): images (C, H, W), signals (C, L), point sets (D, P) or single vectors (D,), either
    float32, about [-1, 1], or uint8 where the source has 8 bits, a quarter of the memory; `take` and `items` give
    float32 in both cases. condition: the condition of each item, shape (N, ...), or None; see `conditioning`.
    class_names: names of the labels, long (N,) in 0 .. len(class_names)-1. vocabulary: words of the captions,
    long (N, L), where entry 0 is padding; pre-encoded captions are float (N, L, D). heldout: further items of
    the same kind, never trained on; see `hold_out`.
    """

    name: str
    stored: Tensor
    condition: Tensor | None = None
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    heldout: Dataset | None = None
    summary: DataSummary | None = None
    """What was found and what is used, if the data was read by `load_data`."""
    latents: bool = False
    """Whether the items are latents of an autoencoder."""
    captions: tuple[str, ...] = ()
    """The caption of each item where a text encoder made `condition` as the data were loaded."""

    def __post_init__(self) -> None:
        assert 2 <= self.stored.ndim <= 4
        assert self.stored.dtype in (torch.float32, torch.uint8)
        assert self.condition is None or len(self.condition) == len(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def items(self) -> Tensor:
        """All items as float32: where they are stored as bytes, a new tensor of four times the size."""
        return as_float(self.stored)

    def take(self, indices: Tensor) -> Tensor:
        """The items at `indices`, long (B,), as float32 (B, *shape)."""
        return as_float(self.stored[indices])

    def parts(self) -> Iterator[Tensor]:
        """All items as float32, some at a time."""
        return map(as_float, self.stored.split(_PART))

    @property
    def reference(self) -> Dataset:
        """The items that samples are scored against: of data in memory, all that are trained on."""
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item: (C, H, W) for images, and a `LatentShape` for latents."""
        shape = tuple(self.stored.shape[1:])
        return LatentShape(shape) if self.latents else shape

    @property
    def conditioning(self) -> Conditioning:
        """The kind and size of `condition`."""
        return conditioning_of(self.condition, len(self.class_names), len(self.vocabulary))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the bytes of `items`; it depends on values and order, not on the source."""
        digest = hashlib.sha256()
        for part in self.parts():
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether items of `shape` are images, (1 or 3, H, W), and not latents of as many channels."""
    return not isinstance(shape, LatentShape) and len(shape) == 3 and shape[0] in (1, 3)


def to_uint8(images: Tensor) -> Tensor:
    """Map images in [-1, 1], clamped, to the nearest uint8 in 0 .. 255, same shape; bytes are left as they are."""
    if images.dtype == torch.uint8:
        return images
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Map uint8 images in 0 .. 255 to float32 in [-1, 1], same shape; `to_uint8` undoes it exactly.

    The same to the bit on every device: a GPU would multiply by the reciprocal of a number, but divides by a tensor.
    """
    half = torch.full((), 127.5, device=images.device)
    return images.to(torch.float32, copy=True).div_(half).sub_(1)


def as_float(items: Tensor) -> Tensor:
    """Items as `Dataset` stores them, as float32."""
    return from_uint8(items) if items.dtype == torch.uint8 else items
