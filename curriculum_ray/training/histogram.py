"""The noise levels that a run really sampled: counts of u over the course of training."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["SampledHistogram"]


class SampledHistogram:
    """Counts of sampled u (0 = cleanest, 1 = noisiest) in `u_bins` columns and `image_bins` rows of the budget."""

    def __init__(self, total_images: int, image_bins: int = 64, u_bins: int = 60) -> None:
        self.total_images, self.image_bins, self.u_bins = total_images, image_bins, u_bins
        self.counts = torch.zeros(image_bins * u_bins, dtype=torch.float64)

    def add(self, images: int, u: torch.Tensor) -> None:
        """Count one batch `u`, shape (B,) on the CPU, drawn after `images` images."""
        row = min(images * self.image_bins // self.total_images, self.image_bins - 1)
        cells = (u * self.u_bins).long().clamp_(0, self.u_bins - 1) + row * self.u_bins
        self.counts.scatter_add_(0, cells, torch.ones_like(cells, dtype=torch.float64))

    def gather(self, rank: int, world_size: int, device: torch.device) -> None:
        """Move the counts of all ranks to rank 0, through `device`; every rank must call it."""
        if world_size > 1:
            counts = self.counts.to(device)
            torch.distributed.all_reduce(counts)
            self.counts.copy_(counts) if rank == 0 else self.counts.zero_()

    def as_json(self) -> dict[str, Any]:
        """Edges in images and u, and counts as a list of rows."""
        rows = self.counts.view(self.image_bins, self.u_bins)
        return {
            "images": [self.total_images * row / self.image_bins for row in range(self.image_bins + 1)],
            "u": [column / self.u_bins for column in range(self.u_bins + 1)],
            "counts": rows.long().tolist(),
        }
