"""Captions as tokens: lower-case words and symbols, numbered by a vocabulary whose entry 0 is padding.

Where a script has no spaces, words are split by Unicode Standard Annex #29. They keep their combining marks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import regex
import torch
from torch import Tensor
from torch.nn.functional import pad

from curriculum_ray.config import ConfigError

__all__ = ["PADDING", "build_vocabulary", "merged_captions_note", "renumber", "tokenise", "words"]

PADDING = "<pad>"

# A run of letters, digits and their marks, or else one grapheme cluster (UAX #29).
# Joiners occur inside words of Persian and of Indic scripts.
_PIECE = regex.compile(r"[\p{L}\p{N}_][\p{L}\p{N}\p{M}_\u200c\u200d]*|\X", regex.V1)
# Scripts without spaces between words: their runs are split at the word boundaries of UAX #29.
_NO_SPACES = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Tham}"
    r"\p{New_Tai_Lue}\p{Tai_Le}\p{Tai_Viet}\p{Javanese}\p{Balinese}\p{Yi}]",
    regex.V1,
)
_BOUNDARY = regex.compile(r"(?w)\b", regex.V1)
# Symbols carry meaning by themselves; other punctuation, spaces and quotes only separate words.
_SIGN = regex.compile(r"[\p{Sm}\p{Sc}\p{So}\p{M}\p{RI}#%&@§‰]", regex.V1)
# A minus before a number, or after a word's end, as in "-5 °C" and "grade A-".
_MINUS = regex.compile(r"(?<!\S)-(?=\p{N})|(?<=[\p{L}\p{N}])-+(?!\S)", regex.V1)


@lru_cache(maxsize=65_536)
def _words(caption: str) -> tuple[str, ...]:
    # Lower case may decompose a letter again.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", caption).lower())
    text = _MINUS.sub(lambda found: "\u2212" * len(found[0]), text)
    tokens: list[str] = []
    for piece in _PIECE.findall(text):
        if piece[0] == "_" or piece[0].isalnum() or unicodedata.category(piece[0])[0] in "LN":
            cut = _BOUNDARY.split(piece) if _NO_SPACES.search(piece) else [piece]
            tokens += filter(None, (word.strip("\u200c\u200d") for word in cut))
        elif _SIGN.match(piece):
            tokens.append(piece)
    return tuple(tokens)


def words(caption: str) -> list[str]:
    """Split a caption into words and symbols, composed (NFC), in lower case and without punctuation."""
    return list(_words(caption))


def merged_captions_note(captions: Iterable[str]) -> str:
    """Describe captions that differ but have the same tokens, or have no tokens; "" if there are none."""
    first: dict[tuple[str, ...], str] = {}
    count, example = 0, ("", "")
    for caption in dict.fromkeys(" ".join(unicodedata.normalize("NFC", text).split()) for text in captions):
        other = first.setdefault(_words(caption), caption) if caption else caption
        if other != caption or (caption and not _words(caption)):
            example = example if count else (other if other != caption else "", caption)
            count += 1
    if not count:
        return ""
    pair = f"{_short(example[1])} is read as {_short(example[0]) if example[0] else 'nothing'}"
    return f"{count:,} captions have the same tokens as a different caption, or no tokens: {pair}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def build_vocabulary(captions: Iterable[str]) -> tuple[str, ...]:
    """Return padding, then every word of `captions` once, in alphabetical order."""
    return (PADDING, *sorted({word for caption in captions for word in _words(caption)}))


def tokenise(captions: Sequence[str], vocabulary: Sequence[str], length: int | None = None) -> Tensor:
    """Convert captions to tokens, long (N, length) in 0 .. len(vocabulary)-1, padded with 0.

    An empty caption is all padding. length: that of the longest caption if None. Unknown words and longer
    captions raise `ConfigError`.
    """
    numbers = {word: number for number, word in enumerate(vocabulary)}
    split = [_words(caption) for caption in captions]
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


def renumber(tokens: Tensor, vocabulary: Sequence[str], into: Sequence[str], length: int) -> Tensor:
    """Convert tokens of one vocabulary, long (N, L), to those of another, long (N, length).

    Words that `into` does not have are dropped, and what then is beyond `length`.
    """
    numbers = {word: number for number, word in enumerate(into)}
    found = torch.tensor([numbers.get(word, 0) for word in vocabulary])[tokens]
    # Words come before padding, and stay in their order.
    found = found.gather(1, (found == 0).long().argsort(dim=1, stable=True))[:, :length]
    return pad(found, (0, length - found.shape[1]))
