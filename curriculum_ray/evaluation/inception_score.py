"""Inception Score (Salimans et al. 2016, §4), from sums over classes that do not grow with the number of samples.

    IS = exp( E_x KL( p(y|x) ‖ p(y) ) ),   E_x KL = E_x Σ_y p(y|x) log p(y|x) − Σ_y p(y) log p(y)

It is the mean over ten splits of the samples, of which each has its own p(y). torch-fidelity draws the splits by a
permutation that depends on the number of samples only; so does this, and gets the same number from the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy
import torch
from torch import Tensor

__all__ = ["NAME", "class_sums", "inception_score"]

NAME = "inception_score"
SPLITS = 10
# torch-fidelity's `rng_seed`.
_SEED = 2020
_COUNT, _CLASSES, _SHARPNESS = "split_count", "split_classes", "split_sharpness"


def class_sums(logits_nC: Tensor, numbers: Tensor, count: int) -> dict[str, Tensor]:
    """What the score needs of the samples `numbers`, long (n,), of `count` in all: float64 sums for each split."""
    log_p = logits_nC.double().log_softmax(1)
    p = log_p.exp()
    split = _splits(count)[numbers]
    classes = torch.zeros(SPLITS, p.shape[1], dtype=torch.float64).index_add_(0, split, p)
    sharpness = torch.zeros(SPLITS, dtype=torch.float64).index_add_(0, split, torch.xlogy(p, p).sum(1))
    return {
        _COUNT: torch.bincount(split, minlength=SPLITS).double(),
        _CLASSES: classes,
        _SHARPNESS: sharpness,
    }


def inception_score(sums: Mapping[str, Tensor]) -> float | None:
    """The score from the `class_sums` of all samples, at least 1; None where there are none of them."""
    if _COUNT not in sums:
        return None
    count = sums[_COUNT]
    q = sums[_CLASSES] / count[:, None]
    divergence = sums[_SHARPNESS] / count - torch.xlogy(q, q).sum(1)
    return float(divergence.exp().mean())


@lru_cache(maxsize=2)
def _splits(count: int) -> Tensor:
    """The split of each of `count` samples, long (count,)."""
    order = numpy.random.RandomState(_SEED).permutation(count)
    ends = [(split + 1) * count // SPLITS for split in range(SPLITS)]
    splits = numpy.empty(count, dtype=numpy.int64)
    splits[order] = numpy.searchsorted(ends, numpy.arange(count), side="right")
    return torch.from_numpy(splits)
