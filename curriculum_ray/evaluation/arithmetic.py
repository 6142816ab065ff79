"""The arithmetic of features: of a protocol and not of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_fp32"]

# By these names and not by `allow_tf32`, which cannot be read where a user has set the newer ones.
_PLACES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]


@contextmanager
def full_fp32() -> Iterator[None]:
    """Within it, a GPU does not round fp32 products to TF32, as a CPU never does; no effect on autocast."""
    rounded = [place for place in _PLACES if place.fp32_precision == "tf32"]
    try:
        for place in rounded:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place in rounded:
            place.fp32_precision = "tf32"
