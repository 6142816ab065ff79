"""What a part of the items leaves behind: sums, some features and the first samples; parts are merged."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

__all__ = ["Moments", "NumberedRows", "Tally", "merged"]

# Shape suffixes: n items, D features.

_SUM = "sum_"
"""Leads the name of a sum among the arrays of a tally."""


class Moments:
    """Number, mean and spread of features, in float64, whatever the number of items.

    spread: the sum of the outer products of deviations from the mean, shape (D, D). Parts are added by Chan, Golub &
    LeVeque 1979, Eq. 2.1, which loses no digits where means are large.
    """

    def __init__(self, count: int = 0, mean: Tensor | None = None, spread: Tensor | None = None) -> None:
        self.count = count
        self.mean = torch.zeros(0, dtype=torch.float64) if mean is None else mean
        self.spread = torch.zeros(0, 0, dtype=torch.float64) if spread is None else spread

    @classmethod
    def of(cls, features_nD: Tensor) -> Moments:
        """Those of features (n, D), n at least 1."""
        values = features_nD.double()
        mean = values.mean(0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    def add(self, other: Moments) -> None:
        """Count the items of `other` too."""
        if not self.count:
            self.count, self.mean, self.spread = other.count, other.mean.clone(), other.spread.clone()
        elif other.count:
            whole = self.count + other.count
            apart = other.mean - self.mean
            self.spread += other.spread
            self.spread += torch.outer(apart, apart) * (self.count * other.count / whole)
            self.mean = self.mean + apart * (other.count / whole)
            self.count = whole

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (D, D); of two items or more."""
        return self.spread / (self.count - 1)


class NumberedRows:
    """Rows of a tensor, each with its number in the whole; kept in any order, read in that of the numbers."""

    def __init__(self) -> None:
        self._numbers: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, numbers: Tensor, rows: Tensor) -> None:
        """Keep `rows` (k, …), whose numbers are `numbers`, long (k,)."""
        if len(numbers):
            self._numbers.append(numbers)
            self._rows.append(rows)

    def extend(self, other: NumberedRows) -> None:
        """Keep those of `other` too."""
        self._numbers += other._numbers
        self._rows += other._rows

    @property
    def numbers(self) -> Tensor:
        """Long (k,), ascending."""
        return torch.cat(self._numbers).sort().values if self._numbers else torch.zeros(0, dtype=torch.long)

    @property
    def rows(self) -> Tensor | None:
        """(k, …) in the order of their numbers; None where there are none."""
        if not self._rows:
            return None
        return torch.cat(self._rows)[torch.cat(self._numbers).argsort()]


@dataclass(frozen=True)
class Tally:
    """Of a part of the items: the moments of its features, the features that are kept, and the items to look at."""

    moments: Moments
    features: NumberedRows
    shown: NumberedRows
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Further sums over the items, float64, by the names that their metrics have for them."""

    @classmethod
    def empty(cls) -> Tally:
        """Of no items."""
        return cls(Moments(), NumberedRows(), NumberedRows())

    def add(self, other: Tally) -> None:
        """Count another part too."""
        self.moments.add(other.moments)
        self.features.extend(other.features)
        self.shown.extend(other.shown)
        for name, value in other.sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def to_bytes(self) -> bytes:
        """As arrays, without pickles; `from_bytes` reads them."""
        arrays = {"count": torch.tensor(self.moments.count), "mean": self.moments.mean}
        arrays["spread"] = self.moments.spread
        arrays |= {f"{_SUM}{name}": value for name, value in self.sums.items()}
        for name, kept in (("features", self.features), ("shown", self.shown)):
            if (rows := kept.rows) is not None:
                arrays |= {name: rows, f"{name}_numbers": kept.numbers}
        file = io.BytesIO()
        numpy.savez(file, **{name: value.numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Tally:
        """Read what `to_bytes` made."""
        with numpy.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        moments = Moments(int(found["count"]), found["mean"], found["spread"])
        sums = {name.removeprefix(_SUM): found[name] for name in found if name.startswith(_SUM)}
        tally = cls(moments, NumberedRows(), NumberedRows(), sums)
        for name, kept in (("features", tally.features), ("shown", tally.shown)):
            if name in found:
                kept.add(found[f"{name}_numbers"], found[name])
        return tally


def merged(parts: Iterable[Tally]) -> Tally:
    """The tally of all parts together, added in their order."""
    whole = Tally.empty()
    for part in parts:
        whole.add(part)
    return whole
