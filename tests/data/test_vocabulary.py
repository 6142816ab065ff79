"""Tokens of captions: what stays distinct, what becomes equal, and the warning where captions collide."""

from __future__ import annotations

from unicodedata import normalize

import pytest
import torch

from curriculum_ray.data import tokenise
from curriculum_ray.data.vocabulary import build_vocabulary, merged_captions_note, renumber, words


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A cat, a dog.", ["a", "cat", "a", "dog"]),
        ("don't  (t-shirt) foo_bar 3.5", ["don", "t", "t", "shirt", "foo_bar", "3", "5"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("日本語のカタカナ", ["日", "本", "語", "の", "カタカナ"]),
        ("C++ and C#", ["c", "+", "+", "and", "c", "#"]),
        ("50% of $5", ["50", "%", "of", "$", "5"]),
        ("👩‍👩‍👧 🇩🇪🇫🇷 👍🏽", ["👩‍👩‍👧", "🇩🇪", "🇫🇷", "👍🏽"]),
        ("…!", []),
    ],
)
def test_words_and_signs(caption: str, expected: list[str]) -> None:
    assert words(caption) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C++", "C#"),
        ("C", "C++"),
        ("कि", "का"),
        ("กิน", "กัน"),
        ("猫と犬", "犬と猫"),
        ("-5 °C", "5 °C"),
        ("grade A+", "grade A-"),
        ("♀", "♂"),
        ("🙂", "🙁"),
        ("שָׁלוֹם", "שלום"),
        ("می‌خواهم", "میخواهم"),
        ("résumé", "resume"),
        ("5 €", "5 $"),
        ("a < b", "a > b"),
    ],
)
def test_different_captions_become_different_tokens(one: str, other: str) -> None:
    vocabulary = build_vocabulary([one, other])
    assert tokenise([one], vocabulary, 8).tolist() != tokenise([other], vocabulary, 8).tolist()
    assert not merged_captions_note([one, other])


@pytest.mark.parametrize("caption", ["Café", "naïve Ångström", "Tiếng Việt", "が", "İstanbul"])
def test_composed_and_decomposed_letters_are_one(caption: str) -> None:
    assert words(normalize("NFD", caption)) == words(normalize("NFC", caption)) != []


def test_captions_that_become_alike_are_counted_with_an_example() -> None:
    line = merged_captions_note(["a cat", "A cat!", "a  cat", "a dog", "...", ""])
    assert line.startswith(
        "2 captions have the same tokens as a different caption, or no tokens: 'A cat!' is read as 'a cat'"
    )
    assert "'...' is read as nothing" in merged_captions_note(["..."])
    assert merged_captions_note(["a cat", "a dog", normalize("NFD", "é"), "é"]) == ""


@pytest.mark.parametrize("length", [2, 3, 6])
def test_renumbered_captions_are_those_of_their_known_words(length: int) -> None:
    captions = ["a tiny red dog", "dog", "", "blue", "tiny dog a red a"]
    known = ["a red dog", "dog", "", "", "dog a red a"]
    own, into = build_vocabulary(captions), build_vocabulary(["a red dog", "cat"])
    found = renumber(tokenise(captions, own), own, into, length)
    assert torch.equal(found, tokenise(known, into, 6)[:, :length])
