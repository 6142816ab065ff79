"""What samples are compared with: the statistics of real items, known or still to be taken from a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.data import NO_CONDITIONING, Conditioning, Dataset, is_image, to_uint8
from curriculum_ray.data.autoencoder import Decoder
from curriculum_ray.data.dataset import as_float
from curriculum_ray.evaluation.extractors import Extractor
from curriculum_ray.evaluation.fidelity import Statistics
from curriculum_ray.evaluation.sampling import WHOLE, Share
from curriculum_ray.evaluation.tally import Moments, NumberedRows, Tally

__all__ = ["Reference", "data_reference", "do_nothing", "evenly_spaced", "tally_of"]

_extracted: dict[tuple[str, str, int], Statistics] = {}
"""Statistics by extractor, data and limit, only of the last reference: features of large sets take gigabytes."""


def do_nothing() -> None:
    """What is called after each block by default."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The real items of an evaluation: either `statistics` of them are known, or `read` gives the items."""

    name: str
    fingerprint: str
    """Of their content."""
    count: int | None
    """How many there are; None where that is not known."""
    features: int
    """Of how many the features are known, or could be."""
    condition: Tensor | None = None
    """Conditions of real items, (N, …), as in `Dataset`, in whose proportions samples are drawn."""
    conditioning: Conditioning = NO_CONDITIONING
    described: Mapping[str, Any] = field(default_factory=dict)
    """What it adds to an evaluation's protocol."""
    read: Callable[[range, torch.device], Tensor] | None = None
    """The items of these numbers, in 0 .. count-1: uint8 images, maybe decoded on a device, or float32 items."""
    statistics: Statistics | None = None

    def known(self, extractor: Extractor, limit: int) -> Statistics | None:
        """The statistics, with the features of up to `limit` items; None where items are still to be read."""
        if self.statistics is not None:
            return self.statistics
        return _extracted.get(self._key(extractor, limit))

    def tally(
        self,
        extractor: Extractor,
        limit: int,
        device: torch.device,
        share: Share = WHOLE,
        on_block: Callable[[], None] = do_nothing,
    ) -> Tally:
        """Read a share of the items, and keep the features of `limit` in all; on_block: called after each block."""
        assert self.read is not None
        assert self.count is not None
        tally, wanted = Tally.empty(), evenly_spaced(self.count, limit)
        for block in share.blocks(self.count, extractor.batch_size):
            numbers = torch.arange(block.start, block.stop)
            tally.add(tally_of(extractor.features(self.read(block, device), device), numbers, wanted))
            on_block()
        return tally

    def keep(self, extractor: Extractor, limit: int, tally: Tally) -> Statistics:
        """The statistics in the `tally` of all shares, which are known from now on."""
        _extracted.clear()
        found = _extracted[self._key(extractor, limit)] = Statistics.of(tally)
        return found

    def _key(self, extractor: Extractor, limit: int) -> tuple[str, str, int]:
        return f"{extractor.name} {extractor.weights}", f"{self.fingerprint} {self.described}", limit


def data_reference(data: Dataset, shape: tuple[int, ...], decoder: Decoder | None = None) -> Reference:
    """A data set in memory, whose features are extracted at the first score, once per Python process.

    shape: that of an item of the whole set, of which `data` may be some. decoder: makes images of its items, which are
    latents.
    """
    images = is_image(shape)

    def read(block: range, device: torch.device) -> Tensor:
        stored = data.stored[block.start : block.stop]
        if decoder is not None:
            return decoder(stored, device)
        return to_uint8(stored) if images else as_float(stored)

    return Reference(
        name=data.name,
        fingerprint=data.fingerprint,
        count=len(data),
        features=len(data),
        condition=data.condition,
        conditioning=data.conditioning,
        read=read,
    )


def evenly_spaced(count: int, limit: int) -> Tensor:
    """The numbers of `limit` of `count` items, or of all, long, ascending: what is sorted keeps its proportions."""
    if limit >= count:
        return torch.arange(count)
    return ((torch.arange(limit, dtype=torch.float64) + 0.5) / max(limit, 1) * count).long()


def tally_of(features: Tensor, numbers: Tensor, wanted: Tensor) -> Tally:
    """The tally of items `numbers`, long (n,), with `features` (n, D), of which those of `wanted` are kept."""
    kept, mine = NumberedRows(), torch.isin(numbers, wanted)
    kept.add(numbers[mine], features[mine])
    return Tally(Moments.of(features), kept, NumberedRows())
