"""Where a training loop gets its batches from: by position in the global stream, whatever the world size."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.order import DataOrder

__all__ = ["Batches", "InMemoryBatches"]


class Batches(Protocol):
    """A source of training batches."""

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Rank's share of the global batch after `images` images: items (batch_size // world_size, *shape), condition.

        All ranks together get the same global batch at any world size, which divides `batch_size`. A call with an
        `images` other than the end of the last batch goes there, forward or back. The condition is None when the
        items have none or the model takes none.
        """
        ...


class InMemoryBatches:
    """Batches of a data set that lies on one device as a whole: nothing is copied in a step but indices."""

    def __init__(self, dataset: Dataset, seed: int, device: torch.device, keep_condition: bool) -> None:
        self.order = DataOrder(len(dataset), seed)
        self.items = dataset.items.to(device)
        keep = keep_condition and dataset.condition is not None
        self.condition = dataset.condition.to(device) if keep and dataset.condition is not None else None

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See `Batches`; `device` must be the one that the data set lies on."""
        indices = self.order.indices(images, batch_size, rank, world_size).to(device, non_blocking=True)
        return self.items[indices], None if self.condition is None else self.condition[indices]
