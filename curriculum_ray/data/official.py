"""A validation or test split beside the train split: whether it can be held out, and what of its captions is lost."""

from __future__ import annotations

from collections.abc import Collection

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.images import list_failures
from curriculum_ray.data.info import DataInfo
from curriculum_ray.words import number_of

__all__ = ["check_split", "not_held_out", "official_split"]


def official_split(splits: Collection[str], read: str) -> str | None:
    """The split to hold out: validation, or else test, where the one that is `read` is train; None for none."""
    return (
        next((name for name in ("validation", "test") if name in splits), None) if read == "train" else None
    )


def check_split(name: str, train: Dataset | DataInfo, other: Dataset | DataInfo) -> tuple[str, ...]:
    """Notes on the captions of the split `other` that are read in part, as the network knows those of `train` only.

    ConfigError, with the reason, where `other` has conditions of another kind, or classes that `train` lacks.
    """
    mine, theirs = train.conditioning, other.conditioning
    if mine.kind != theirs.kind or (mine.kind == "embedding" and mine.size != theirs.size):
        raise ConfigError(f"it must have {mine} like the train split, but has {theirs}")
    known = _classes(train)
    others = [
        class_name if class_name == label else f"{label} = {class_name}"
        for label, class_name in _classes(other).items()
        if label not in known or class_name not in (known[label], label)
    ]
    if others:
        raise ConfigError(f"its classes must be those of the train split, but it has {list_failures(others)}")
    unknown = sorted({*other.vocabulary} - {*train.vocabulary})
    notes = []
    if unknown:
        lost = number_of(f"{len(unknown):,}", "word")
        notes.append(
            f"captions of the held-out {name} split are read without {lost} that the train split does not have: "
            f"{list_failures(unknown)}"
        )
    if theirs.length > mine.length:
        notes.append(
            f"captions of the held-out {name} split are cut to {number_of(mine.length, 'token')}, the length of the "
            f"longest of the train split: one has {theirs.length}"
        )
    return tuple(notes)


def not_held_out(name: str, reason: ConfigError) -> str:
    """The note on a split that is left alone."""
    return f"the {name} split is not held out: {reason}"


def _classes(data: Dataset | DataInfo) -> dict[str, str]:
    """The names of the classes by their labels."""
    labels = data.labels if isinstance(data, DataInfo) else ()
    return dict(zip(map(str, labels or data.class_names), data.class_names, strict=True))
