"""The held-out split of a data set in memory: items chosen by a hash of their content, never trained on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset

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


def hold_out_split(data: Dataset, other: Dataset) -> Dataset | None:
    """Keep all of `data` and hold out `other`, another split, without the items that `data` has as well.

    Returns None if `other` has another shape, other classes or words, or no item of its own.
    """
    compared = ("shape", "conditioning", "class_names", "vocabulary")
    if any(getattr(data, name) != getattr(other, name) for name in compared):
        return None
    place = places(other)
    own = ~torch.isin(place, places(data))
    if not own.any():
        return None
    order = place.argsort(stable=True)
    return replace(data, heldout=_select(other, order[own[order]]))


def _select(data: Dataset, indices: Tensor) -> Dataset:
    condition = None if data.condition is None else data.condition[indices]
    return replace(data, stored=data.stored[indices], condition=condition)
