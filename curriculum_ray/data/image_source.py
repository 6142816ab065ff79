"""Images to be encoded: those of a set in memory, or those of a folder or of shards, read as they are asked for."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, is_image
from curriculum_ray.data.folder import list_folder
from curriculum_ray.data.folder_files import THREADS
from curriculum_ray.data.headers import Fetch
from curriculum_ray.data.images import read_square, to_pixels
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.load import data_info, load_data, require_folder
from curriculum_ray.data.shard_rows import make_condition, open_unit, read_image, unreadable
from curriculum_ray.data.shards import scan
from curriculum_ray.data.spec import EMBEDDED, DataSpec
from curriculum_ray.data.summary import warn_of

__all__ = ["Images", "InFolder", "InMemory", "Part", "images_of"]

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Part:
    """Some images, read."""

    images: Tensor
    """(n, C, H, W) as `Dataset` stores them."""
    condition: Tensor | None
    """That of each, (n, ...)."""
    left_out: tuple[str, ...] = ()
    """Those that are not among them, because they are corrupt and are skipped."""


class Images(Protocol):
    """Images in an order, and their conditions."""

    @property
    def about(self) -> Dataset | DataInfo:
        """Their metadata."""

    @property
    def condition(self) -> Tensor | None:
        """That of each, (N, ...), where it is known before they are read."""

    @property
    def complete(self) -> bool:
        """Whether none is left out when they are read."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides how they are read, as JSON values, where the fingerprint of `about` does not."""

    def read(self, start: int, stop: int) -> Part:
        """Images `start` .. `stop`-1; raises ConfigError."""


def images_of(spec: DataSpec) -> Images:
    """The images of `spec`: those of a folder or of shards are read as they are asked for."""
    if spec.streamed:
        images: Images = InShards(spec)
    elif spec.name in EMBEDDED:
        images = InMemory(load_data(spec))
    else:
        images = InFolder(spec)
    if not is_image(images.about.shape):
        raise ConfigError(f"--data must name images, but {images.about.name} has none")
    return images


@dataclass(frozen=True)
class InMemory:
    """The images of a data set in memory."""

    about: Dataset
    complete = True
    settings = _NONE

    @property
    def condition(self) -> Tensor | None:
        """See `Images`."""
        return self.about.condition

    def read(self, start: int, stop: int) -> Part:
        """See `Images`."""
        condition = self.about.condition
        return Part(self.about.stored[start:stop], None if condition is None else condition[start:stop])


class InFolder:
    """The images of a folder."""

    settings = _NONE

    def __init__(self, spec: DataSpec) -> None:
        require_folder(spec)
        listed = list_folder(spec)
        self.about = listed.info
        self.condition = listed.condition
        self.complete = spec.corrupt == "refuse"
        self._root = Path(spec.name)
        self._paths = listed.paths
        assert self.about.summary is not None
        warn_of(self.about.summary)

    def read(self, start: int, stop: int) -> Part:
        """See `Images`."""
        numbers = range(start, stop)
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            results = list(pool.map(self._attempt, numbers))
        kept = [number for number, image in zip(numbers, results, strict=True) if isinstance(image, Tensor)]
        broken = tuple(image for image in results if isinstance(image, str))
        if broken and self.complete:
            raise unreadable(str(self._root), broken[0])
        return Part(
            _stacked([image for image in results if isinstance(image, Tensor)], self.about),
            None if self.condition is None else self.condition[kept],
            broken,
        )

    def _attempt(self, number: int) -> Tensor | str:
        """The image, or how it is named where it is broken."""
        path, (channels, side, _) = self._paths[number], self.about.shape
        try:
            return to_pixels(read_square(path, side), channels)
        # Pillow's decoders raise almost anything on a broken file.
        except Exception as error:
            return f"{path.relative_to(self._root)} ({type(error).__name__})"


class InShards:
    """The images of shards in the order of their files; the shard read last stays open."""

    condition = None

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self.about = data_info(spec)  # which warns
        self.complete = spec.corrupt == "refuse"
        columns = spec.model_dump(include={"image_column", "caption_column", "label_column"})
        self.settings = {"shape": list(self.about.shape), **columns}
        self._units = scan(spec).units
        self._starts = list(itertools.accumulate((unit.rows for unit in self._units), initial=0))
        self._open: tuple[int, Fetch] | None = None

    def read(self, start: int, stop: int) -> Part:
        """See `Images`."""
        images, values, broken = [], [], []
        for number in range(start, stop):
            at = bisect.bisect_right(self._starts, number) - 1
            row = number - self._starts[at]
            found = read_image(self._spec, self.about, self._units[at], row, self._fetch(at))
            if isinstance(found, str):
                broken.append(found)
                continue
            images.append(found[0])
            values.append(found[1])
        return Part(_stacked(images, self.about), make_condition(self.about, values), tuple(broken))

    def _fetch(self, at: int) -> Fetch:
        if self._open is None or self._open[0] != at:
            self._open = at, open_unit(self._spec, self.about, self._units[at])
        return self._open[1]


def _stacked(images: Sequence[Tensor], about: DataInfo) -> Tensor:
    return torch.stack(tuple(images)) if images else torch.empty(0, *about.shape, dtype=torch.uint8)
