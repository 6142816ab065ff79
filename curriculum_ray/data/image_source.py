"""Images to be encoded: those of a folder in memory, or those of shards, read as they are asked for."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, is_image
from curriculum_ray.data.headers import Fetch
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.load import data_info, load_data
from curriculum_ray.data.shard_rows import Unreadable, make_condition, open_unit, read_image
from curriculum_ray.data.shards import scan
from curriculum_ray.data.spec import DataSpec

__all__ = ["Images", "InMemory", "images_of"]


class Images(Protocol):
    """Images in an order, and their conditions."""

    @property
    def about(self) -> Dataset | DataInfo:
        """Their metadata."""

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Images `start` .. `stop`-1, (n, C, H, W) as `Dataset` stores them, and their conditions.

        Fewer where corrupt ones are skipped. Raises ConfigError.
        """


def images_of(spec: DataSpec) -> Images:
    """The images of `spec`: those of a folder in memory, those of shards read as they are asked for."""
    images: Images = InShards(spec) if spec.streamed else InMemory(load_data(spec))
    if not is_image(images.about.shape):
        raise ConfigError(f"--data must name images, but {images.about.name} has none")
    return images


@dataclass(frozen=True)
class InMemory:
    """The images of a data set in memory."""

    about: Dataset

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """See `Images`."""
        condition = self.about.condition
        return self.about.stored[start:stop], None if condition is None else condition[start:stop]


class InShards:
    """The images of shards in the order of their files; the shard read last stays open."""

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self.about = data_info(spec)  # which warns
        self._units = scan(spec).units
        self._starts = list(itertools.accumulate((unit.rows for unit in self._units), initial=0))
        self._open: tuple[int, Fetch] | None = None

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """See `Images`."""
        images, values = [], []
        for number in range(start, stop):
            at = bisect.bisect_right(self._starts, number) - 1
            row = number - self._starts[at]
            try:
                image, value = read_image(self._spec, self.about, self._units[at], row, self._fetch(at))
            except Unreadable as error:
                if self._spec.corrupt == "refuse":
                    raise ConfigError(
                        f"{self._spec.name} must hold readable images, but cannot read {error}"
                    ) from None
                continue
            images.append(image)
            values.append(value)
        if not images:
            raise ConfigError(
                f"{self._spec.name} must hold readable images, but none of {start:,} .. {stop - 1:,} is"
            )
        return torch.stack(images), make_condition(self.about, values)

    def _fetch(self, at: int) -> Fetch:
        if self._open is None or self._open[0] != at:
            self._open = at, open_unit(self._spec, self.about, self._units[at])
        return self._open[1]
