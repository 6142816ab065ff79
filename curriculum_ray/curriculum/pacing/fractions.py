"""Pacing by a growing fraction of active clusters: Wu et al. 2021 and Hacohen & Weinshall 2019."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_left
from typing import Literal

from pydantic import Field, model_validator

from curriculum_ray.curriculum.pacing.base import (
    Images,
    Share,
    check_end,
    check_length,
    exactly_one,
    in_images,
    in_words,
)
from curriculum_ray.curriculum.pacing.by_images import ByImages, ByImagesRule, too_many

__all__ = ["FamilyPacing", "FixedExponentialPacing", "SingleStepPacing"]


class _FractionPacing(ByImagesRule):
    """Rules that begin n = max(1, ceil(g·N)) of N stages, g a fraction that grows with the images seen.

    Of a cumulative active set, stages are clusters, so that n clusters are active. A window and `newest_weighted` have
    one stage more, of ordinary training. Where g begins with several stages, only the last of them is run: a window
    narrower than that passes over clusters until ordinary training.

    Where g asks for several clusters in one step, they join one step after another, early enough that all have joined
    by the time that the rule gives.
    """

    start_fraction: float = Field(default=0.1, ge=1e-9, le=1.0)
    """Share of the stages begun from the start, in [1e-9, 1]: b of Wu et al., p of Hacohen & Weinshall. Of a
    cumulative active set, the share of active clusters."""

    @abstractmethod
    def fraction(self, progress: float) -> float:
        """g, the active fraction before clipping to [0, 1], at `progress` >= 0 in the rule's lengths."""

    @abstractmethod
    def _unit(self, total_images: int | None) -> int:
        """The rule's length in images."""

    def _whole(self) -> int:
        """The number of lengths after which all clusters are active."""
        return 1

    @abstractmethod
    def _joins_at_once(self) -> bool:
        """Whether g is a step function by definition, whose clusters join together."""

    def build(self, num_stages: int, total_images: int | None, step: int = 1) -> ByImages:
        """The ladder of n = max(1, ceil(g·N)), one rung a step; N counts stages."""
        first, last = self._ends(num_stages)
        unit = self._unit(total_images)
        end = unit * self._whole()

        def stage_at(images: int) -> int:
            # The margin keeps g·N = 2.0000000000000004 from counting as 3.
            return max(1, math.ceil(min(max(self.fraction(images / unit), 0.0), 1.0) * num_stages - 1e-9)) - 1

        first = max(first, stage_at(0))
        begins = {first: 0}
        for stage in range(first + 1, last + 1):
            begins[stage] = bisect_left(range(end + 1), stage, key=stage_at)
        if self._joins_at_once():
            # Of stages that start together, the last one counts.
            together = {images: stage for stage, images in begins.items()}
            return ByImages(tuple(together.values()), tuple(map(float, together)))
        return ByImages(tuple(begins), _spread(list(begins.values()), end, step))

    def check(self, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse more rungs than steps, a length of less than one step, and an end at or after that of the budget."""
        rule = self.build(num_stages, total_images, step)
        climbs, end = len(rule.stages) - 1, self._unit(total_images) * self._whole()
        if not climbs:
            return
        if self._joins_at_once():
            self._check_length(step, total_images)
        elif end < climbs * step:
            raise too_many(num_stages, climbs, self.describe(), end, step, total_images)
        check_end(self.describe(), math.ceil(rule.begins[-1]), step, total_images)

    @abstractmethod
    def _check_length(self, step: int, total_images: int | None) -> None:
        """Refuse a length of less than one step."""


def _spread(begins: list[int], end: int, step: int) -> tuple[float, ...]:
    """Ascending image counts at least `step` apart, none later than `end` where there is room."""
    for rung in range(1, len(begins)):
        begins[rung] = max(begins[rung], begins[rung - 1] + step)
    if (len(begins) - 1) * step <= end:
        for back in range(len(begins)):
            begins[-1 - back] = min(begins[-1 - back], end - back * step)
    return tuple(map(float, begins))


class FamilyPacing(_FractionPacing):
    """The six pacing families of Wu et al. 2021 (2012.03107, §4), from `start_fraction` to all at `full`."""

    absolute = ("full_images",)

    rule: Literal["root", "linear", "quad", "exp", "log", "step"]
    """Shape of the growth."""
    full_share: Share | None = None
    """Share of the budget after which all clusters are active, in (0, 1]: a of Wu et al."""
    full_images: Images | None = None
    """Images after which all clusters are active."""

    @model_validator(mode="after")
    def _check(self) -> FamilyPacing:
        exactly_one(self, "full_share", "full_images")
        return self

    def fraction(self, progress: float) -> float:
        """g(x), x = i/(aS): b + (1-b)·x^p, p = ½, 1, 2 (root, linear, quad); exp, log and step as below."""
        b, x = self.start_fraction, min(progress, 1.0)
        powers = {"root": 0.5, "linear": 1.0, "quad": 2.0}
        if self.rule in powers:
            return b + (1 - b) * x ** powers[self.rule]
        if self.rule == "exp":
            return b + (1 - b) * math.expm1(10 * x) / math.expm1(10)
        if self.rule == "log":
            return b + (1 - b) * (1 + 0.1 * math.log(x + math.exp(-10)))
        return b + math.floor(x)

    def _unit(self, total_images: int | None) -> int:
        return in_images(self.full_images, self.full_share, total_images, "full_share")

    def _joins_at_once(self) -> bool:
        return self.rule == "step"

    def _check_length(self, step: int, total_images: int | None) -> None:
        name = "full_images" if self.full_images is not None else "full_share"
        check_length(name, self._unit(total_images), step, total_images, self.full_share)

    def describe(self) -> str:
        """The shape and the length."""
        return f"{self.rule} pacing to {in_words(self.full_images, self.full_share)}"


class _SteppedPacing(_FractionPacing):
    absolute = ("step_images",)

    step_images: Images | None = None
    """Length of a step in images, at least one optimizer step."""
    step_share: Share | None = None
    """Length of a step as a share of the budget, in (0, 1], at least one optimizer step."""

    @model_validator(mode="after")
    def _check(self) -> _SteppedPacing:
        exactly_one(self, "step_images", "step_share")
        return self

    def _unit(self, total_images: int | None) -> int:
        return in_images(self.step_images, self.step_share, total_images, "step_share")

    def _joins_at_once(self) -> bool:
        return True

    def _check_length(self, step: int, total_images: int | None) -> None:
        name = "step_images" if self.step_images is not None else "step_share"
        check_length(name, self._unit(total_images), step, total_images, self.step_share)


class FixedExponentialPacing(_SteppedPacing):
    """Fixed exponential pacing of Hacohen & Weinshall 2019 (1904.03626, §3)."""

    rule: Literal["fixed_exponential"] = "fixed_exponential"
    """The active share grows by a factor after each step."""
    increase: float = Field(default=1.9, gt=1.0)
    """Factor by which the active share grows at each step."""

    def _whole(self) -> int:
        return math.ceil(self._steps())

    def _steps(self) -> float:
        """The number of steps, before rounding, after which the active share is 1."""
        return math.log(1 / self.start_fraction) / math.log(self.increase)

    def fraction(self, progress: float) -> float:
        """g(x) = min(p·increase^floor(x), 1), x = i/L."""
        steps = math.floor(progress)
        return 1.0 if steps >= self._steps() else self.start_fraction * self.increase**steps

    def describe(self) -> str:
        """The factor and the step."""
        return f"fixed exponential pacing, ×{self.increase:.3g} every {in_words(self.step_images, self.step_share)}"


class SingleStepPacing(_SteppedPacing):
    """Single step pacing of Hacohen & Weinshall 2019 (1904.03626, §3)."""

    rule: Literal["single_step"] = "single_step"
    """The start fraction for one step, then everything."""

    def fraction(self, progress: float) -> float:
        """g(x) = p for x < 1, then 1; x = i/L."""
        return self.start_fraction if progress < 1 else 1.0

    def describe(self) -> str:
        """The step."""
        return f"everything after {in_words(self.step_images, self.step_share)}"
