"""Pacing by the images seen alone: a ladder of image counts, and stages of equal length."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import model_validator

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.pacing.base import (
    Images,
    Pacing,
    PacingRule,
    PacingState,
    Share,
    check_end,
    check_length,
    exactly_one,
    in_images,
    in_words,
    share_of,
    stages_fit,
)

__all__ = ["ByImages", "ByImagesRule", "FixedPacing", "too_many"]


@dataclass(frozen=True)
class ByImages(Pacing):
    """A ladder whose rungs are entered at given numbers of images, one at a time."""

    stages: tuple[int, ...]
    """The stages that are visited, ascending."""
    begins: tuple[float, ...]
    """The images at which each of them starts, after the first step that reaches them; 0 for the first."""

    @property
    def ladder(self) -> Sequence[int]:
        """The stages that are visited."""
        return self.stages

    def init(self) -> PacingState:
        """The first rung."""
        return PacingState(stage=self.stages[0])

    def advance(self, state: PacingState, images: int) -> PacingState:
        """Climb to the next rung if `images` have reached it."""
        following = bisect_left(self.stages, state.stage) + 1
        if following == len(self.stages) or images < self.begins[following]:
            return state
        return replace(state, stage=self.stages[following])


class ByImagesRule(PacingRule):
    """Settings of a rule that reads no losses."""

    def earliest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """The start of each rung, at whole steps."""
        rule = self.build(num_stages, total_images, step)
        return tuple(
            (stage, math.ceil(begin / step) * step)
            for stage, begin in zip(rule.stages, rule.begins, strict=True)
        )

    def latest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """The same as the earliest: no loss counts."""
        return self.earliest(num_stages, total_images, step)

    @abstractmethod
    def build(self, num_stages: int, total_images: int | None, step: int = 1) -> ByImages:
        """The ladder for `num_stages` stages and optimizer steps of `step` images over all ranks."""


class FixedPacing(ByImagesRule):
    """All stages are equally long: with length L, stage k starts at (k - start_stage)·L images."""

    absolute = ("stage_images",)

    rule: Literal["fixed"] = "fixed"
    """All stages are equally long."""
    stage_images: Images | None = None
    """L in images, at least one step."""
    stage_share: Share | None = None
    """L as a share of the budget, in (0, 1], at least one step."""
    finish_by: Share | None = None
    """The share of the budget at which the last stage starts, in (0, 1]; L follows from it."""

    @model_validator(mode="after")
    def _check(self) -> FixedPacing:
        exactly_one(self, "stage_images", "stage_share", "finish_by")
        return self

    def build(self, num_stages: int, total_images: int | None, step: int = 1) -> ByImages:
        """Equally long stages from `start_stage` on."""
        first, last = self._ends(num_stages)
        stages = tuple(range(first, last + 1))
        if self.finish_by is None:
            length = in_images(self.stage_images, self.stage_share, total_images, "stage_share")
            return ByImages(stages, tuple(float(length * rung) for rung in range(len(stages))))
        finish, climbs = in_images(None, self.finish_by, total_images, "finish_by"), len(stages) - 1
        return ByImages(stages, tuple(finish * rung / max(climbs, 1) for rung in range(len(stages))))

    def check(self, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse stages of less than one step, and a last stage that starts at or after the end."""
        rule = self.build(num_stages, total_images, step)
        climbs, end = len(rule.stages) - 1, math.ceil(rule.begins[-1])
        if not climbs:
            return
        if self.finish_by is not None:
            if end < climbs * step:
                raise too_many(num_stages, climbs, f"finish_by {self.finish_by:.6g}", end, step, total_images)
            check_end(f"finish_by {self.finish_by:.6g}", end, step, total_images)
            return
        name = "stage_images" if self.stage_images is not None else "stage_share"
        check_length(name, int(rule.begins[1]), step, total_images, self.stage_share)
        what = f"a length of {in_words(self.stage_images, self.stage_share)} for each of {num_stages} stages"
        check_end(what, end, step, total_images)

    def describe(self) -> str:
        """The length, in the unit in which it was given."""
        if self.finish_by is not None:
            return f"fixed stages to {self.finish_by:.3g} of the budget"
        return f"fixed stages of {in_words(self.stage_images, self.stage_share)}"


def too_many(
    num_stages: int, climbs: int, what: str, end: int, step: int, total_images: int | None
) -> ConfigError:
    """The error for more stages than steps until `end` images."""
    share = "" if total_images is None else f" ({share_of(climbs * step, total_images)} of the budget)"
    return ConfigError(
        f"pacing: {num_stages} stages need {climbs} steps of {step} images to be walked, but {what} leaves "
        f"{end // step}: {stages_fit(num_stages - climbs + end // step)}, or {climbs * step:,} images{share}"
    )
