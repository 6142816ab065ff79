"""The order in which images are seen: one permutation per epoch, the same at any world size."""

from __future__ import annotations

import torch

from curriculum_ray.splitmix import mix

__all__ = ["DataOrder"]


class DataOrder:
    """Indices of `count` images by position in the global stream; position p is in epoch p // count."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._permutations: dict[int, torch.Tensor] = {}

    def _permutation(self, epoch: int) -> torch.Tensor:
        if epoch not in self._permutations:
            self._permutations = {key: value for key, value in self._permutations.items() if key >= epoch - 1}
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._permutations[epoch] = torch.randperm(self.count, generator=generator)
        return self._permutations[epoch]

    def indices(self, images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> torch.Tensor:
        """Return the indices (batch_size // world_size,) of a rank's share of the batch from image `images`.

        Rank r takes positions images + r, images + r + world_size, ...: together, all ranks take the same
        images at any world size.
        """
        pieces, position, end = [], images, images + batch_size
        while position < end:
            epoch, start = divmod(position, self.count)
            pieces.append(self._permutation(epoch)[start : start + end - position])
            position += len(pieces[-1])
        return torch.cat(pieces)[rank::world_size]
