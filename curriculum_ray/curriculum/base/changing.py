"""A base distribution that changes during training from one to another, by a step or a blend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base.core import Base, FixedBase
from curriculum_ray.curriculum.base.noise import LaplaceLogSnr, LogNormalSigma
from curriculum_ray.curriculum.base.shifted import FluxShifted, Shifted, SqrtShifted
from curriculum_ray.curriculum.base.speed import Speed
from curriculum_ray.curriculum.base.time import Asymmetric, Beta, CosMap, LogitNormal, Mode, Normal, Uniform
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["Changing", "FixedBaseSpec"]

FixedBaseSpec = Annotated[
    Uniform
    | LogitNormal
    | Normal
    | Mode
    | CosMap
    | Beta
    | Asymmetric
    | Shifted
    | SqrtShifted
    | FluxShifted
    | LaplaceLogSnr
    | LogNormalSigma
    | Speed,
    Field(discriminator="kind"),
]


class Changing(Base):
    """First one distribution, then another: density (1-w)·f_first + w·f_then after n images, with

        w(n) = clamp((n - at) / blend, 0, 1),   or 1[n >= at] without a blend.

    Curriculum Sampling (Sun 2026, 2603.12517): logit-normal, then uniform, by a step. CLTS (Xu et al. 2024,
    2404.07946), as SpeeD's released comparison has it, lets uniform timesteps give way to a normal distribution
    around 300 of 1,000 in proportion to the steps taken:
    `{kind: changing, first: {kind: uniform}, then: {kind: normal}, at_share: 0, blend_share: 1}`.
    The width of that normal distribution, and that the whole budget is taken rather than 50,000 steps, are ours: that
    code multiplies the exponent by 1,000², where it should divide, which leaves timestep 300 alone.

    Throughout training, u is that of `first`, and so are the clusters of a curriculum: a cluster keeps its noise levels
    when the distribution changes, and `then` is drawn within them.
    """

    kind: Literal["changing"] = "changing"
    """First one distribution, then another."""
    first: FixedBaseSpec = LogitNormal()
    """The distribution at the start; clusters are cut in its u."""
    then: FixedBaseSpec = Uniform()
    """The distribution at the end."""
    at_images: int | None = Field(default=None, ge=0)
    """When the change begins, in images, at least one step before the end of the budget."""
    at_share: float | None = Field(default=None, ge=0, lt=1)
    """When the change begins, as a share of the budget, at least one step before its end."""
    blend_images: int | None = Field(default=None, ge=1)
    """How long it lasts, in images; without blend_images and blend_share it is a step."""
    blend_share: float | None = Field(default=None, gt=0, le=1)
    """How long it lasts, as a share of the budget."""

    @model_validator(mode="after")
    def _check(self) -> Changing:
        if (self.at_images is None) == (self.at_share is None):
            got = "none" if self.at_share is None else "at_images and at_share"
            raise ValueError(f"exactly one of at_images, at_share must be given, but got {got}")
        if self.blend_images is not None and self.blend_share is not None:
            raise ValueError("at most one of blend_images, blend_share must be given, but got both")
        if self.first == self.then:
            raise ValueError(f"first and then must differ, but both are {self.first.describe()}")
        return self

    def distributions(self) -> tuple[FixedBase, ...]:
        """`first` and `then`."""
        return (self.first, self.then)

    def span(self, total_images: int | None) -> tuple[int, int]:
        """When the change begins and how long it lasts, in images; 0 for a step.

        Raises ConfigError for a share of the budget without `total_images`.
        """
        return (
            _in_images(self.at_images, self.at_share, total_images, "at_share"),
            _in_images(self.blend_images, self.blend_share, total_images, "blend_share"),
        )

    def absolute_lengths(self) -> dict[str, int]:
        """at_images and blend_images, as far as they are given."""
        given = {"at_images": self.at_images, "blend_images": self.blend_images}
        return {key: value for key, value in given.items() if value is not None}

    def to_levels(self, u: Tensor, levels: NoiseLevels) -> Tensor:
        """As `first` does."""
        return self.first.to_levels(u, levels)

    def to_u(self, level: Tensor, levels: NoiseLevels) -> Tensor:
        """As `first` does."""
        return self.first.to_u(level, levels)

    def describe(self) -> str:
        """Both distributions, and when."""
        when = f"{self.at_images} images" if self.at_share is None else f"{self.at_share:.3g} of the budget"
        blend = ""
        if self.blend_images is not None:
            blend = f" over {self.blend_images} images"
        if self.blend_share is not None:
            blend = f" over {self.blend_share:.3g} of it"
        return f"{self.first.describe()} then {self.then.describe()} at {when}{blend}"


def _in_images(images: int | None, share: float | None, total_images: int | None, name: str) -> int:
    if share is None:
        return images or 0
    if total_images is None:
        raise ConfigError(f"base.{name} is a share of the budget: pass total_images, the budget in images")
    return round(share * total_images)
