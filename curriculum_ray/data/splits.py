"""Train, validation and test: which names mean a split, as Hugging Face datasets has them, and which one is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from curriculum_ray.config import ConfigError

__all__ = ["choose_split", "split_of_file", "split_of_folder"]

_KEYWORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NAMES = {word: split for split, words in _KEYWORDS.items() for word in words}
_FOLDER = re.compile(
    rf"({'|'.join(_NAMES)})(?:[-_ .]?(?:set|split|data|images|imgs)|[-_ .]?\d+)?s?", re.IGNORECASE
)
_WORD = re.compile(rf"(?:^|[-._ 0-9/])({'|'.join(_NAMES)})(?=[-._ 0-9/]|$)", re.IGNORECASE)


def split_of_folder(name: str) -> str | None:
    """The split that a folder's name means, e.g. of train, Val, test2017 or training_set; None for others."""
    found = _FOLDER.fullmatch(name)
    return _NAMES[found[1].lower()] if found else None


def split_of_file(path: str) -> str | None:
    """The split of a shard, from its path within the data: data/train-00000-of-00002.parquet, val/0.tar."""
    found = {_NAMES[word.lower()] for word in _WORD.findall(path)}
    found |= {split for part in path.split("/")[:-1] if (split := split_of_folder(part))}
    return found.pop() if len(found) == 1 else None


def choose_split(
    wish: str | None, found: Sequence[str], place: str, what: str = "images"
) -> tuple[str, Mapping[str, int], str]:
    """The split to read of those that each of the images or shards `found` is in ("" for none), counts, and a note.

    The note is for a person, where there was a choice. A wish that is not there raises `ConfigError`, and so does no
    wish where there are splits, none of which is train.
    """
    every = Counter(split or "(no split)" for split in found)
    counts = {name: every[name] for name in (*_KEYWORDS, "(no split)") if name in every}
    names = [name for name in counts if name != "(no split)"]
    if wish in (None, "all") and not names:
        return "", {}, ""
    listed = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    if wish == "all" or (wish is None and len(counts) == 1 and names):
        return "all" if len(counts) > 1 else names[0], counts, ""
    if wish is not None:
        chosen = _NAMES.get(wish.lower(), wish)
        if chosen not in names:
            there = f"has {listed}" if names else "has no splits in the names of its folders and files"
            raise ConfigError(
                f"data.split must be a split of {place}, all or none, but got {wish}: it {there}"
            )
        return chosen, counts, ""
    if "train" in names:
        note = f"of the {what} of splits {listed}, train is read: data.split chooses another, or all"
        return "train", counts, note
    raise ConfigError(
        f"{place} has {what} of splits {listed}, none of which is train: say with data.split which is meant, or all"
    )
