"""Points in the plane from a mixture of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from curriculum_ray.data.dataset import Dataset

__all__ = ["MIXTURE_COUNT", "Mixture2D", "load_mixture2d"]

MIXTURE_COUNT = 8_192
_COMPONENTS = 8


class Mixture2D:
    """Eight round Gaussians on a circle; every second one is twice as likely and half as wide.

    means: (8, 2), std: (8,), weights: (8,), summing to 1; all float64.
    """

    def __init__(self) -> None:
        angle = torch.arange(_COMPONENTS, dtype=torch.float64) * 2 * math.pi / _COMPONENTS
        odd = torch.arange(_COMPONENTS) % 2
        self.means = 0.75 * torch.stack([angle.cos(), angle.sin()], dim=1)
        self.std = 0.10 - 0.05 * odd.double()
        self.weights = (1 + odd.double()) / (1.5 * _COMPONENTS)

    def draw(self, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Draw `count` points, float64 (count, 2), and the component of each, long (count,)."""
        import numpy

        # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19).
        source = numpy.random.RandomState(seed)
        component = torch.from_numpy(
            numpy.searchsorted(self.weights.cumsum(0).numpy()[:-1], source.random_sample(count))
        ).long()
        normal = torch.from_numpy(source.standard_normal((count, 2)))
        return self.means[component] + self.std[component, None] * normal, component


def load_mixture2d(set_size: int | None = None, classes: bool = True) -> Dataset:
    """Return 8,192 points (8192, 2), labelled by component, or as many point sets (8192, 2, set_size)."""
    points, component = Mixture2D().draw(MIXTURE_COUNT * (set_size or 1))
    if set_size is not None:
        items = points.float().reshape(MIXTURE_COUNT, set_size, 2).transpose(1, 2).contiguous()
        return Dataset("mixture2d", items)
    names = tuple(str(number) for number in range(_COMPONENTS)) if classes else ()
    return Dataset("mixture2d", points.float(), component if classes else None, names)
