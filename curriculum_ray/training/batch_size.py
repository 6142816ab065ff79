"""The batch size of a run or study that sets none: the default, or a smaller one where images are few."""

from __future__ import annotations

__all__ = ["DEFAULT_BATCH_SIZE", "batch_sizes", "choice_line"]

DEFAULT_BATCH_SIZE = 128


def batch_sizes(parts: int = 1) -> list[int]:
    """The candidates, in this order, where none is given: the default and every smaller power of two.

    parts: the number of parts that a batch is split into, workers times `accumulate`. Only multiples of it are
    candidates; where there are none, only the default is.
    """
    sizes = [DEFAULT_BATCH_SIZE >> power for power in range(DEFAULT_BATCH_SIZE.bit_length())]
    return [size for size in sizes if size % parts == 0] or sizes[:1]


def choice_line(size: int, images: int, stages: str, key: str) -> str:
    """Say in one line why `size` was chosen instead of the default.

    images: the smallest budget. stages: what they are too few for, e.g. "the schedule's 20 stages". key: the
    setting that chooses another.
    """
    steps = -(-images // DEFAULT_BATCH_SIZE)
    return (
        f"batch size {size}: with {DEFAULT_BATCH_SIZE}, {images:,} images are {steps:,} step{'s'[: steps != 1]}, too "
        f"few for {stages} ({key} sets another)"
    )
