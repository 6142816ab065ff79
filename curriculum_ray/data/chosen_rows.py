"""Rows of a stream that are kept in memory: chosen evenly from many of its units, by their places alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from curriculum_ray.data.headers import Unit
from curriculum_ray.splitmix import mix

__all__ = ["NO_ROWS", "ChosenRows", "choose_rows"]

_UNITS = 32
"""Units that rows are taken from, if they have enough: a few would show too little of shards sorted by class, and each
one is opened, a row group even read whole."""


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of some units."""

    units: tuple[Unit, ...] = ()
    """The units that the rows are of, and others."""
    numbers: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Rows by the index of their unit, in the order in which they are read."""

    def __len__(self) -> int:
        return sum(map(len, self.numbers.values()))

    def of(self, index: int) -> tuple[int, ...]:
        """The rows of the unit at `index`; () for none."""
        return self.numbers.get(index, ())


NO_ROWS = ChosenRows()


def choose_rows(units: Sequence[Unit], count: int, seed: int, without: ChosenRows = NO_ROWS) -> ChosenRows:
    """Choose `count` rows of `units` at random, or all if there are fewer; they depend on the other arguments only.

    They come in about equal numbers from 32 units, more where those have too few. without: rows of the same units that
    are not chosen.
    """
    source = torch.Generator().manual_seed(mix(seed, 0))
    chosen: list[int] = []
    there = 0
    for index in torch.randperm(len(units), generator=source).tolist():
        if len(chosen) >= _UNITS and there >= count:
            break
        if free := units[index].rows - len(without.of(index)):
            chosen.append(index)
            there += free
    numbers: dict[int, tuple[int, ...]] = {}
    left = min(count, there)
    chosen.sort(key=lambda index: (units[index].rows - len(without.of(index)), index))
    for place, index in enumerate(chosen):
        taken = set(without.of(index))
        # From the smallest on, each gives an equal share of the rest, or all that it has.
        share = min(-(-left // (len(chosen) - place)), units[index].rows - len(taken))
        if not share:
            continue
        order = torch.randperm(
            units[index].rows, generator=torch.Generator().manual_seed(mix(seed, 1, index))
        )
        numbers[index] = tuple([row for row in order.tolist() if row not in taken][:share])
        left -= share
    return ChosenRows(tuple(units), dict(sorted(numbers.items())))
