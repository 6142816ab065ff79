"""Settings of pacing: the paper's plateau, fixed lengths, Wu et al. 2021 and Hacohen & Weinshall 2019.

Lengths are in images, or a share of the run's budget of images, exactly one of the two.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.curriculum.pacing import NormalizedPlateau, Pacing, Plateau, Progress

__all__ = [
    "FamilyPacing",
    "FixedExponentialPacing",
    "FixedPacing",
    "PacingSpec",
    "PlateauPacing",
    "SingleStepPacing",
]

Images = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


def _exactly_one(spec: Spec, *names: str) -> None:
    given = [name for name in names if getattr(spec, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"exactly one of {', '.join(names)} must be given, but got {' and '.join(given) or 'none'}"
        )


def _in_images(images: int | None, share: float | None, total_images: int | None, name: str) -> int:
    """A length in images, given as such or as a share of the budget."""
    if images is not None:
        return images
    assert share is not None
    if total_images is None:
        raise ConfigError(f"pacing.{name} is a share of the budget: pass total_images, the budget in images")
    return max(1, round(share * total_images))


class _Pacing(Spec, ABC):
    start_stage: int = Field(default=0, ge=0)
    """The stage to start from, 0 is the first: a warm start."""
    finish_by: Share | None = None
    """The share of the budget by which the last stage is forced, in (0, 1]; not forced by default."""

    @abstractmethod
    def build(self, num_stages: int, total_images: int | None) -> Pacing:
        """The rule for `num_stages` stages; `ConfigError` where a share of the budget lacks the budget."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for people."""

    def _limits(self, num_stages: int, total_images: int | None) -> tuple[int, int, int | None]:
        """The last stage, the first stage and the images at which the last one is forced."""
        if self.start_stage >= num_stages:
            raise ConfigError(
                f"pacing.start_stage must be below {num_stages} stages, but got {self.start_stage}"
            )
        finish = None
        if self.finish_by is not None:
            finish = _in_images(None, self.finish_by, total_images, "finish_by")
        return num_stages - 1, self.start_stage, finish


class PlateauPacing(_Pacing):
    """The paper's rule: a stage ends when its loss stops improving; the formula is in `Plateau`."""

    rule: Literal["plateau"] = "plateau"
    """A stage ends when its loss has not improved for a while."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """τ in iterations, as in the paper; changes its meaning with the batch size."""
    patience_images: Images | None = None
    """τ in images."""
    patience_share: Share | None = None
    """τ as a share of the budget, in (0, 1]."""
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Weight of the past in the running mean of the loss, in [0, 1); 0 reads the raw loss."""
    min_delta: float = Field(default=0.0, ge=0.0)
    """How much lower counts as an improvement, in units of the loss."""
    normalize: bool = False
    """Divide each loss by the running mean of its cluster; needs per-sample losses."""

    @model_validator(mode="after")
    def _check(self) -> PlateauPacing:
        _exactly_one(self, "patience", "patience_images", "patience_share")
        return self

    def build(self, num_stages: int, total_images: int | None) -> Pacing:
        """The state machine; its docstring has the decision's formula."""
        last, first, finish = self._limits(num_stages, total_images)
        patience = self.patience or _in_images(
            self.patience_images, self.patience_share, total_images, "patience_share"
        )
        return (NormalizedPlateau if self.normalize else Plateau)(
            patience=patience,
            last=last,
            in_images=self.patience is None,
            smoothing=self.smoothing,
            min_delta=self.min_delta,
            first=first,
            finish=finish,
        )

    def describe(self) -> str:
        """The patience in its unit."""
        if self.patience is not None:
            return f"plateau patience {self.patience}"
        if self.patience_images is not None:
            return f"plateau patience {self.patience_images} images"
        return f"plateau patience {self.patience_share:.3g} of the budget"


class FixedPacing(_Pacing):
    """Each stage lasts equally long."""

    rule: Literal["fixed"] = "fixed"
    """Each stage lasts equally long."""
    stage_images: Images | None = None
    """Length of a stage in images."""
    stage_share: Share | None = None
    """Length of a stage as a share of the budget, in (0, 1]."""

    @model_validator(mode="after")
    def _check(self) -> FixedPacing:
        _exactly_one(self, "stage_images", "stage_share")
        return self

    def build(self, num_stages: int, total_images: int | None) -> Pacing:
        """stage = start_stage + floor(images / length)."""
        last, first, finish = self._limits(num_stages, total_images)
        length = _in_images(self.stage_images, self.stage_share, total_images, "stage_share")
        return Progress(lambda images: first + images // length, last, first, finish)

    def describe(self) -> str:
        """The length in its unit."""
        if self.stage_images is not None:
            return f"fixed stages of {self.stage_images} images"
        return f"fixed stages of {self.stage_share:.3g} of the budget"


class _FractionPacing(_Pacing):
    start_fraction: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of the clusters active from the start, in (0, 1]: b of Wu et al., p of Hacohen & Weinshall."""

    def _by_fraction(self, num_stages: int, total_images: int | None, unit: int) -> Pacing:
        """The rule that keeps n = max(1, ceil(g·N)) of N clusters active; `unit` is the length in images."""
        last, first, finish = self._limits(num_stages, total_images)

        def stage_at(images: int) -> int:
            # The margin keeps g·N = 2.0000000000000004 from counting as 3.
            return max(1, math.ceil(min(max(self.fraction(images / unit), 0.0), 1.0) * num_stages - 1e-9)) - 1

        return Progress(stage_at, last, first, finish)

    @abstractmethod
    def fraction(self, progress: float) -> float:
        """g, the active fraction before clipping to [0, 1], at `progress` >= 0 in the rule's lengths."""


class FamilyPacing(_FractionPacing):
    """The six pacing families of Wu et al. 2021 (2012.03107, §4), from `start_fraction` to all at `full`."""

    rule: Literal["root", "linear", "quad", "exp", "log", "step"]
    """Shape of the growth."""
    full_share: Share | None = None
    """Share of the budget after which all is active, in (0, 1]: a of Wu et al."""
    full_images: Images | None = None
    """Images after which all is active."""

    @model_validator(mode="after")
    def _check(self) -> FamilyPacing:
        _exactly_one(self, "full_share", "full_images")
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

    def build(self, num_stages: int, total_images: int | None) -> Pacing:
        """n = max(1, ceil(g·N)) of N."""
        length = _in_images(self.full_images, self.full_share, total_images, "full_share")
        return self._by_fraction(num_stages, total_images, length)

    def describe(self) -> str:
        """The shape and the length in its unit."""
        full = (
            f"{self.full_images} images"
            if self.full_images is not None
            else f"{self.full_share:.3g} of the budget"
        )
        return f"{self.rule} pacing to {full}"


class _SteppedPacing(_FractionPacing):
    step_images: Images | None = None
    """Length of a step in images."""
    step_share: Share | None = None
    """Length of a step as a share of the budget, in (0, 1]."""

    @model_validator(mode="after")
    def _check(self) -> _SteppedPacing:
        _exactly_one(self, "step_images", "step_share")
        return self

    def build(self, num_stages: int, total_images: int | None) -> Pacing:
        """n = max(1, ceil(g·N)) of N."""
        length = _in_images(self.step_images, self.step_share, total_images, "step_share")
        return self._by_fraction(num_stages, total_images, length)

    def _step(self) -> str:
        if self.step_images is not None:
            return f"{self.step_images} images"
        return f"{self.step_share:.3g} of the budget"


class FixedExponentialPacing(_SteppedPacing):
    """Fixed exponential pacing of Hacohen & Weinshall 2019 (1904.03626, §3)."""

    rule: Literal["fixed_exponential"] = "fixed_exponential"
    """The active share grows by a factor after each step."""
    increase: float = Field(default=1.9, gt=1.0)
    """Factor by which the active share grows at each step."""

    def fraction(self, progress: float) -> float:
        """g(x) = min(p·increase^floor(x), 1), x = i/L."""
        needed = math.log(1 / self.start_fraction) / math.log(self.increase)
        steps = math.floor(progress)
        return 1.0 if steps >= needed else self.start_fraction * self.increase**steps

    def describe(self) -> str:
        """The factor and the step."""
        return f"fixed exponential pacing, ×{self.increase:.3g} every {self._step()}"


class SingleStepPacing(_SteppedPacing):
    """Single step pacing of Hacohen & Weinshall 2019 (1904.03626, §3)."""

    rule: Literal["single_step"] = "single_step"
    """The start fraction for one step, then everything."""

    def fraction(self, progress: float) -> float:
        """g(x) = p for x < 1, then 1; x = i/L."""
        return self.start_fraction if progress < 1 else 1.0

    def describe(self) -> str:
        """The step."""
        return f"everything after {self._step()}"


PacingSpec = Annotated[
    PlateauPacing | FixedPacing | FamilyPacing | FixedExponentialPacing | SingleStepPacing,
    Field(discriminator="rule"),
]
