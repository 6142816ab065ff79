"""The interface of pacing rules: a state machine `init()`, `advance(state, images)`, `update(state, loss, images)`.

A rule holds no state: all of it is in `PacingState`. Stages are counted from 0; the last stage is ordinary training
and never ends. `images` is the number of images seen so far, including the current step.

A rule's *ladder* is the sequence of stages that it visits. Whatever the losses, a run climbs at most one rung per step,
so each stage lasts at least one step; `PacingRule.check` refuses settings that could not reach the last rung.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.words import number_of

__all__ = [
    "Images",
    "Pacing",
    "PacingRule",
    "PacingState",
    "Share",
    "caught_up",
    "check_begins",
    "check_end",
    "check_length",
    "exactly_one",
    "in_images",
    "in_words",
    "share_of",
    "stages_fit",
]

Images = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class PacingState:
    """The position of a run in its curriculum; JSON-safe through `dataclasses.asdict`."""

    stage: int = 0
    """The current stage, 0 is the first."""
    best: float | None = None
    """The lowest (smoothed) loss of this stage; None before its first loss."""
    waited: int = 0
    """Iterations or images since `best`, in the unit of the rule's patience."""
    smoothed: float | None = None
    """The running mean of the loss in this stage; None before its first loss."""
    seen: int | None = None
    """Images at the latest loss of this stage; None before its first loss."""
    sums: tuple[float, ...] = ()
    """Sum of the losses of each cluster since the start, for normalisation."""
    counts: tuple[float, ...] = ()
    """Number of the losses of each cluster since the start."""


class Pacing(ABC):
    """The interface of all rules. Rules that read no loss are pure functions of the images seen."""

    reads_losses: bool = False
    per_cluster: bool = False
    """Whether a loss is a row of per-cluster sums and counts rather than a mean."""
    window: int = 0
    """Steps of losses that several workers may exchange at once without blurring the rule; 0 where it reads none."""

    @property
    @abstractmethod
    def ladder(self) -> Sequence[int]:
        """The stages that the rule visits, ascending: all of them in this order, each for at least one step."""

    @abstractmethod
    def init(self) -> PacingState:
        """The state before the first step."""

    @abstractmethod
    def advance(self, state: PacingState, images: int) -> PacingState:
        """Climb at most one rung, by the number of images alone; otherwise return the same state."""

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one step's loss, a row with the mean over the global batch, and return the next state."""
        return self.advance(state, images)


def caught_up(rule: Pacing, images: int) -> PacingState:
    """The state of a run that starts at `images` and has read no loss: as many rungs as the images demand."""
    state = rule.init()
    while (after := rule.advance(state, images)) != state:
        state = after
    return state


class PacingRule(Spec, ABC):
    """Settings of a rule. A length is given either in images or as a share of the run's budget of images."""

    absolute: ClassVar[tuple[str, ...]] = ()
    """Settings whose lengths do not depend on the budget: in images, or in iterations."""

    start_stage: int = Field(default=0, ge=0)
    """The stage to start from, 0 is the first: a warm start."""

    def absolute_lengths(self) -> dict[str, int]:
        """The lengths that are given in images or iterations, by key: they do not shrink with the budget."""
        return {key: value for key in self.absolute if (value := getattr(self, key)) is not None}

    @abstractmethod
    def build(self, num_stages: int, total_images: int | None, step: int = 1) -> Pacing:
        """The state machine for `num_stages` stages and optimizer steps of `step` images over all ranks.

        Raises `ConfigError` for a share of the budget without `total_images`.
        """

    @abstractmethod
    def check(self, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse a ladder that cannot be walked in steps of `step` images; the `ConfigError` says what would fit."""

    def check_window(self, window: int, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse windows of so many steps of `step` images where losses would be read too late; ConfigError.

        A rule that reads no losses takes any.
        """

    @abstractmethod
    def earliest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """(stage, images) of each rung at the earliest: where no loss ever improves."""

    @abstractmethod
    def latest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """(stage, images) of each rung at the latest: where every loss improves."""

    @abstractmethod
    def describe(self) -> str:
        """A short description."""

    def _ends(self, num_stages: int) -> tuple[int, int]:
        """The first and the last stage."""
        if self.start_stage >= num_stages:
            raise ConfigError(
                f"pacing.start_stage must be below {num_stages} stages, but got {self.start_stage}"
            )
        return self.start_stage, num_stages - 1


def exactly_one(spec: Spec, *names: str) -> None:
    """ValueError unless exactly one of these settings is given."""
    given = [name for name in names if getattr(spec, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"exactly one of {', '.join(names)} must be given, but got {' and '.join(given) or 'none'}"
        )


def in_images(images: int | None, share: float | None, total_images: int | None, name: str) -> int:
    """A length in images, given as such or as a share of the budget; `name` is the share's key."""
    if images is not None:
        return images
    assert share is not None
    if total_images is None:
        raise ConfigError(f"pacing.{name} is a share of the budget: pass total_images, the budget in images")
    return max(1, round(share * total_images))


def in_words(images: int | None, share: float | None) -> str:
    """A length in words, in the unit in which it was given."""
    return f"{images} images" if images is not None else f"{share:.3g} of the budget"


def check_length(name: str, images: int, step: int, total_images: int | None, share: float | None) -> None:
    """Refuse a length of less than one step, where different settings give the same run.

    name: its key, as an image count or, where `share` is given, as a share of the budget.
    """
    if images >= step:
        return
    if share is None or total_images is None:
        rule, got = f"{step}", f"{images}"
    else:
        rule, got = share_of(step, total_images), f"{share:.6g} ({images} images)"
    raise ConfigError(f"pacing.{name} must be at least {rule}, one step of {step} images, but got {got}")


def check_end(what: str, begins: int, step: int, total_images: int | None) -> None:
    """Refuse a ladder whose last stage would start, after `begins` images, with no step of the budget left."""
    check_begins("pacing: the last stage", f"{what} lets it begin", begins, step, total_images)


def check_begins(subject: str, verb: str, begins: int, step: int, total_images: int | None) -> None:
    """Refuse what begins at the first step after `begins` images, with no whole step of the budget left.

    subject, verb: of the line of the `ConfigError`, "base: the change" and "it begins".
    """
    first = -(-begins // step) * step
    if total_images is not None and first > total_images - step:
        whole = "" if first == begins else f", in whole steps {first:,}"
        raise ConfigError(
            f"{subject} must begin at least one step of {number_of(step, 'image')} before the budget of "
            f"{total_images:,} ends, but {verb} after {begins:,}{whole}"
        )


def stages_fit(count: int) -> str:
    """How many stages fit, as part of a line: "at most 2 stages fit"."""
    return f"at most {number_of(count, 'stage')} fit{'s' if count == 1 else ''}"


def share_of(images: int, total_images: int) -> str:
    """A share of the budget with three figures, rounded up."""
    return f"{Context(prec=3, rounding=ROUND_CEILING).divide(Decimal(images), Decimal(total_images)):f}"
