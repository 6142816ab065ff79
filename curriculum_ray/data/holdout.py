"""The held-out split of a data set in memory: items chosen by a hash of their content, never trained on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.vocabulary import renumber

__all__ = ["DEFAULT_SHARE", "LEAST_ITEMS", "hold_out", "hold_out_split", "places"]

DEFAULT_SHARE = 0.1
LEAST_ITEMS = 256
"""Smaller sets hold nothing out by default: a tenth of so few items measures little and costs much."""


def places(data: Dataset) -> Tensor:
    """Return each item's place, uniform in [0, 1), float64 (N,): the first 53 bits of its bytes' SHA-256.

    It depends only on the item's values, not on its order, its name or other items. Equal items share a
    place.
    """
    digests = (
        hashlib.sha256(item.contiguous().numpy().data).digest() for part in data.parts() for item in part
    )
    return torch.tensor([int.from_bytes(digest[:8]) >> 11 for digest in digests], dtype=torch.float64) / 2**53


def hold_out(data: Dataset, share: float | None) -> Dataset:
    """Move the items of `data` whose place is below `share` to its `heldout`, in the order of their places.

    share: in [0, 1), 0 for none; None is `DEFAULT_SHARE` for sets of `LEAST_ITEMS` or more, else none. The
    share is met only approximately: each item is decided independently, so that no item changes sides as a
    set grows. Raises ConfigError if a given share leaves one side empty.
    """
    if share == 0 or (share is None and len(data) < LEAST_ITEMS):
        return data
    place = places(data)
    if share is None:
        # An item repeated within an epoch counts once.
        if len(place.unique()) < LEAST_ITEMS:
            return data
        share = DEFAULT_SHARE
    chosen = place < share
    count = int(chosen.sum())
    if not 0 < count < len(data):
        raise ConfigError(
            f"data.holdout_share must leave items on both sides, but {share:g} holds out {count} of the {len(data)} "
            f"of {data.name}"
        )
    order = place.argsort(stable=True)
    return replace(_select(data, (~chosen).nonzero().flatten()), heldout=_select(data, order[chosen[order]]))


def hold_out_split(data: Dataset, other: Dataset) -> Dataset:
    """Keep all of `data` and hold out `other`, another split, without the items that `data` has as well.

    The conditions of `other`, of the same kind, become those of `data`: its classes are among those of `data`, and its
    captions lose what `data` does not have (see `renumber`). ConfigError where `other` has no item of its own.
    """
    assert data.shape == other.shape
    place = places(other)
    own = ~torch.isin(place, places(data))
    if not own.any():
        raise ConfigError("it must have items that the train split does not have, but has none")
    order = place.argsort(stable=True)
    alike = replace(
        other,
        condition=_condition(data, other),
        class_names=data.class_names,
        vocabulary=data.vocabulary,
    )
    return replace(data, heldout=_select(alike, order[own[order]]))


def _condition(data: Dataset, other: Dataset) -> Tensor | None:
    """The condition of `other` in the classes, words and length of `data`."""
    condition, length = other.condition, data.conditioning.length
    if condition is None:
        return None
    if condition.ndim == 1:
        # The last is for -1, no label.
        return torch.tensor([*map(data.class_names.index, other.class_names), -1])[condition]
    if condition.ndim == 2:
        return renumber(condition, other.vocabulary, data.vocabulary, length)
    return pad(condition[:, :length], (0, 0, 0, max(0, length - condition.shape[1])))


def _select(data: Dataset, indices: Tensor) -> Dataset:
    condition = None if data.condition is None else data.condition[indices]
    captions = tuple(data.captions[index] for index in indices.tolist()) if data.captions else ()
    return replace(data, stored=data.stored[indices], condition=condition, captions=captions)
