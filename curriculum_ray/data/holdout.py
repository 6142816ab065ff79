"""The held-out split of a data set in memory: items chosen by a hash of their content, and never trained on."""

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
"""Smaller sets hold nothing out unless a share is given: every tenth of so few items says little and costs much."""


def places(items: Tensor) -> Tensor:
    """Each item's place in [0, 1), float64 (N,): the first 53 bits of SHA-256 of its bytes, uniform over items.

    It depends on the item's values alone: not on its order, its name or the other items. Equal items share a place.
    """
    digests = (hashlib.sha256(item.contiguous().numpy().data).digest() for item in items)
    return torch.tensor([int.from_bytes(digest[:8]) >> 11 for digest in digests], dtype=torch.float64) / 2**53


def hold_out(data: Dataset, share: float | None) -> Dataset:
    """`data` without the items whose place lies below `share`; they are its `heldout`, in the order of their places.

    share: in [0, 1), 0 for none; None is `DEFAULT_SHARE` of sets of `LEAST_ITEMS` or more, else none. About so many
    items are held out, not exactly: whether one is depends on no other, so that a set that grows moves none of them.
    Raises ConfigError where a share is given that leaves one side empty.
    """
    if share == 0 or (share is None and len(data) < LEAST_ITEMS):
        return data
    place = places(data.items)
    if share is None:
        # An item that comes several times an epoch is one.
        if len(place.unique()) < LEAST_ITEMS:
            return data
        share = DEFAULT_SHARE
    chosen = place < share
    count = int(chosen.sum())
    if not 0 < count < len(data):
        raise ConfigError(
            f"data.holdout_share must leave items on either side, but {share:g} holds out {count} of the {len(data)} "
            f"of {data.name}"
        )
    order = place.argsort(stable=True)
    return replace(_select(data, (~chosen).nonzero().flatten()), heldout=_select(data, order[chosen[order]]))


def hold_out_split(data: Dataset, other: Dataset) -> Dataset | None:
    """`data` whole, with the items of `other`, a split of its own, held out, less those that `data` holds as well.

    None where `other` is of another shape, is told in other classes or words, or has no item of its own.
    """
    alike = ("shape", "conditioning", "class_names", "vocabulary")
    if any(getattr(data, name) != getattr(other, name) for name in alike):
        return None
    place = places(other.items)
    own = ~torch.isin(place, places(data.items))
    if not own.any():
        return None
    order = place.argsort(stable=True)
    return replace(data, heldout=_select(other, order[own[order]]))


def _select(data: Dataset, indices: Tensor) -> Dataset:
    condition = None if data.condition is None else data.condition[indices]
    return replace(data, items=data.items[indices], condition=condition)
