"""Train, validation and test: names that denote a split, as in Hugging Face datasets, and their choice."""

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
    """Return the split that a folder name denotes, e.g. train, Val, test2017; None for others."""
    found = _FOLDER.fullmatch(name)
    return _NAMES[found[1].lower()] if found else None


def split_of_file(path: str) -> str | None:
    """Return the split of a shard by its path, e.g. data/train-00000-of-00002.parquet or val/0.tar."""
    found = {_NAMES[word.lower()] for word in _WORD.findall(path)}
    found |= {split for part in path.split("/")[:-1] if (split := split_of_folder(part))}
    return found.pop() if len(found) == 1 else None


def choose_split(
    requested: str | None, found: Sequence[str], place: str, what: str = "images"
) -> tuple[str, Mapping[str, int], str]:
    """Choose the split to read; return it, the counts of all splits, and a note to the user, possibly "".

    requested: `data.split`. found: the split of each image or shard, "" for none. Raises `ConfigError` if the
    requested split is missing, or if none is requested and no split is train.
    """
    every = Counter(split or "(no split)" for split in found)
    counts = {name: every[name] for name in (*_KEYWORDS, "(no split)") if name in every}
    names = [name for name in counts if name != "(no split)"]
    if requested in (None, "all") and not names:
        return "", {}, ""
    listed = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    if requested == "all" or (requested is None and len(counts) == 1 and names):
        return "all" if len(counts) > 1 else names[0], counts, ""
    if requested is not None:
        chosen = _NAMES.get(requested.lower(), requested)
        if chosen not in names:
            there = f"has {listed}" if names else "has no splits in the names of its folders and files"
            raise ConfigError(
                f"data.split must be a split of {place}, all or none, but got {requested}: it {there}"
            )
        return chosen, counts, ""
    if "train" in names:
        note = (
            f"{what} are in the splits {listed}, of which train is read: data.split chooses another, or all"
        )
        return "train", counts, note
    raise ConfigError(
        f"{place} has {what} in the splits {listed}, but no train split: choose one, or all, with data.split"
    )
