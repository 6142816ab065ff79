"""How much of its ladder a run has walked, from the starts of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Walked", "stages_walked"]


@dataclass(frozen=True)
class Walked:
    """How many of the requested stages a run has trained in."""

    stages_asked: int
    stages_walked: int
    images_in_stage: list[int]
    """Of each stage asked for; they sum to the run's images; 0 where a stage was skipped."""


def stages_walked(ladder: Sequence[int], stage_starts: Sequence[Sequence[int]], images: int) -> Walked:
    """How much of its ladder a run of `images` images has walked.

    ladder: the stages that its schedule asks for, ascending. stage_starts: (images, stage) of each stage that was
    sampled, the first at 0.
    """
    ends = [start for start, _ in stage_starts[1:]] + [images]
    spent = {stage: end - start for (start, stage), end in zip(stage_starts, ends, strict=True)}
    in_stage = [spent.get(stage, 0) for stage in ladder]
    return Walked(
        stages_asked=len(ladder),
        stages_walked=sum(1 for length in in_stage if length),
        images_in_stage=in_stage,
    )
