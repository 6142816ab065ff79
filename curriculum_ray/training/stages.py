"""How much of its ladder a run has walked, read off from where its stages began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["stages_walked"]


def stages_walked(
    ladder: Sequence[int], stage_starts: Sequence[Sequence[int]], images: int
) -> dict[str, Any]:
    """What a run of `images` images did of the stages that its schedule asks for, JSON-safe.

    ladder: those stages, ascending. stage_starts: (images, stage) of each stage that was sampled, the first at 0.
    Returns "stages_asked" and "stages_walked", both counts, and "images_in_stage", a list along `ladder` that sums to
    `images` and holds 0 where a stage was skipped.
    """
    ends = [start for start, _ in stage_starts[1:]] + [images]
    spent = {stage: end - start for (start, stage), end in zip(stage_starts, ends, strict=True)}
    in_stage = [spent.get(stage, 0) for stage in ladder]
    return {
        "stages_asked": len(ladder),
        "stages_walked": sum(1 for length in in_stage if length),
        "images_in_stage": in_stage,
    }
