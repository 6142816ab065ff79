"""Training batches by position in the global stream, independent of the world size."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from curriculum_ray.data.dataset import Dataset, as_float
from curriculum_ray.data.order import DataOrder

__all__ = ["Batches", "InMemoryBatches"]


class Batches(Protocol):
    """A source of training batches."""

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Return items (batch_size // world_size, *shape) and condition for a rank's part of a global batch.

        The batch starts after `images` images. All ranks together get the same batch at any world size that
        divides `batch_size`. If `images` is not the end of the last batch, the stream seeks there, forward or
        back. The condition is None if the items have none or the model takes none.
        """
        ...


class InMemoryBatches:
    """Batches of a data set that is held whole on one device, as it is stored: a step copies only indices."""

    def __init__(self, dataset: Dataset, seed: int, device: torch.device, keep_condition: bool) -> None:
        self.order = DataOrder(len(dataset), seed)
        self.items = dataset.stored.to(device)
        keep = keep_condition and dataset.condition is not None
        self.condition = dataset.condition.to(device) if keep and dataset.condition is not None else None

    def in_order_of(self, seed: int) -> InMemoryBatches:
        """Batches in the order of another seed, of the same tensors, which are not copied."""
        other = copy.copy(self)
        other.order = DataOrder(self.order.count, seed)
        return other

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See `Batches`; `device` must be the device of the data set."""
        indices = self.order.indices(images, batch_size, rank, world_size).to(device, non_blocking=True)
        return as_float(self.items[indices]), None if self.condition is None else self.condition[indices]
