"""The batch size of a run or study whose user names none: the default one, or a smaller one where images are few."""

from __future__ import annotations

__all__ = ["BATCH_SIZES", "DEFAULT_BATCH_SIZE", "choice_line"]

DEFAULT_BATCH_SIZE = 128
BATCH_SIZES = tuple(2**power for power in range(7, -1, -1))
"""What is tried, in this order, where none is given: the default and every smaller power of two."""


def choice_line(size: int, images: int, stages: str, key: str) -> str | None:
    """Say in one line why `size` was chosen; None where it is the default one.

    images: the smallest budget. stages: whose stages they are and how many, e.g. "the schedule's 20 stages". key: the
    setting that chooses another.
    """
    if size == DEFAULT_BATCH_SIZE:
        return None
    steps = -(-images // DEFAULT_BATCH_SIZE)
    return (
        f"batch size {size}: with {DEFAULT_BATCH_SIZE}, {images:,} images are {steps:,} step{'s'[: steps != 1]}, too "
        f"few for {stages} ({key} sets another)"
    )
