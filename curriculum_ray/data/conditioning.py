"""The kinds of condition that a network takes beside the noisy item: none, a class, or a caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

__all__ = ["NO_CONDITIONING", "Conditioning", "conditioning_of"]


@dataclass(frozen=True)
class Conditioning:
    """The kind and size of a data set's condition, the tensor that a network takes beside the noisy item.

    kind: `none`; `class`: long (B,) in 0 .. size-1; `tokens`: captions as long (B, length) in 0 .. size-1, 0
    is padding; `embedding`: pre-encoded captions, float (B, length, size). None, a class of -1, a caption of
    only padding and an embedding of zeros are all the null condition.
    """

    kind: Literal["none", "class", "tokens", "embedding"] = "none"
    size: int = 0
    """The number of classes, the size of the vocabulary, or the width of the embedding."""
    length: int = 0
    """Tokens per caption; 0 for classes."""

    def __bool__(self) -> bool:
        return self.kind != "none"

    def __str__(self) -> str:
        return {
            "none": "no condition",
            "class": f"{self.size} classes",
            "tokens": f"captions of {self.length} tokens from {self.size}",
            "embedding": f"captions as {self.length} vectors of {self.size}",
        }[self.kind]

    def as_json(self) -> dict[str, Any]:
        """Convert to JSON values, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Conditioning:
        """Undo `as_json`."""
        return cls(**values)


NO_CONDITIONING = Conditioning()


def conditioning_of(condition: Tensor | None, classes: int, words: int) -> Conditioning:
    """The kind and size of a condition of N items, (N, ...); classes, words: the names of either."""
    if condition is None:
        return NO_CONDITIONING
    if condition.ndim == 1:
        return Conditioning("class", classes)
    if condition.ndim == 2:
        return Conditioning("tokens", words, condition.shape[1])
    return Conditioning("embedding", condition.shape[2], condition.shape[1])
