"""Captions as numbers of words, for the text encoder that is trained with the network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError

__all__ = ["build_vocabulary", "tokenise", "words"]

PADDING = "<pad>"


def words(text: str) -> list[str]:
    """The words of a caption in lower case: runs of letters, digits and apostrophes."""
    return re.findall(r"[\w']+", text.lower())


def build_vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """All words of `texts` in alphabetical order, after the padding, which is entry 0."""
    return (PADDING, *sorted({word for text in texts for word in words(text)}))


def tokenise(texts: Sequence[str], vocabulary: Sequence[str], length: int | None = None) -> Tensor:
    """Captions as long (N, length) in 0 .. len(vocabulary)-1; 0 fills up what is short, and an empty caption.

    length: longer captions are cut there; by default that of the longest. Words that `vocabulary` lacks raise
    `ConfigError`.
    """
    index = {word: number for number, word in enumerate(vocabulary)}
    split = [words(text) for text in texts]
    unknown = sorted({word for caption in split for word in caption} - set(index))
    if unknown:
        raise ConfigError(f"captions must use words of the vocabulary, but {unknown[0]!r} is none of them")
    if length is None:
        length = max(1, *(len(caption) for caption in split), 0)
    tokens = torch.zeros(len(split), length, dtype=torch.long)
    for row, caption in enumerate(split):
        numbers = [index[word] for word in caption[:length]]
        tokens[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return tokens
