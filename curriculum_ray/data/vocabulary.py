"""Captions as tokens: words in lower case, numbered by a vocabulary whose entry 0 is padding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError

__all__ = ["PADDING", "build_vocabulary", "tokenise", "words"]

PADDING = "<pad>"


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case, without punctuation."""
    return re.findall(r"\w+", caption.lower())


def build_vocabulary(captions: Iterable[str]) -> tuple[str, ...]:
    """Padding, then every word of `captions` once, in alphabetical order."""
    return (PADDING, *sorted({word for caption in captions for word in words(caption)}))


def tokenise(captions: Sequence[str], vocabulary: Sequence[str], length: int | None = None) -> Tensor:
    """Captions as long (N, length) in 0 .. len(vocabulary)-1, padded by 0; an empty one is all padding.

    length: the longest caption's if None. Unknown words and longer captions raise `ConfigError`.
    """
    numbers = {word: number for number, word in enumerate(vocabulary)}
    split = [words(caption) for caption in captions]
    unknown = sorted({word for caption in split for word in caption if word not in numbers})
    if unknown:
        known = ", ".join(list(vocabulary)[1:41]) + (", …" if len(vocabulary) > 41 else "")
        raise ConfigError(f"captions must be made of the words {known}, but got {', '.join(unknown[:5])}")
    longest = max((len(caption) for caption in split), default=0)
    length = max(1, longest) if length is None else length
    if longest > length:
        raise ConfigError(f"captions must have at most {length} words, but one has {longest}")
    tokens = torch.zeros(len(split), length, dtype=torch.long)
    for row, caption in enumerate(split):
        tokens[row, : len(caption)] = torch.tensor([numbers[word] for word in caption], dtype=torch.long)
    return tokens
