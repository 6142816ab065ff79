"""Successive halving that does not punish a curriculum: the whole schedule compressed, never the start of a longer one.

A curriculum cut short has never seen low noise, and its score is catastrophic (docs/concepts/budgets.md). A scheduler
that stops the worst at each rung, such as ASHA (Li et al. 2020), therefore kills slow curricula for noise levels that
they have not seen yet. Here a rung is a separate run with a smaller budget and the whole schedule, in shares of the
budget. Nothing can be carried over from rung to rung, so each costs its full budget: that is the price of a fair
comparison.

`after_last_stage` needs no extra runs: trials run at the full budget, and may be stopped early only after they have
trained on all noise levels for a while. Use `compressed` if most schedules are bad and the budget is long (the low
rungs are a small part of it), or if lengths differ so much that a look at equal images would favour short ones. Use
`after_last_stage` if schedules reach their last stage early (`finish_by`), or if a run compressed to a quarter says
nothing, because the model has learnt nothing by then: it saves at most the part of a run after its looks.

A rung of `compressed` costs as many images as one full run, so reduction^rungs schedules cost rungs + 1 full runs: with
a reduction of 4 and one rung half of what they cost without halving, with a reduction of 2 and one rung just as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from curriculum_ray.config import Spec

__all__ = ["AfterLastStage", "Compressed", "FullBudget", "HalvingSpec", "promoted"]

KeyT = TypeVar("KeyT", bound=str)


class _Halving(Spec):
    """At which budgets schedules run: without a rule of its own, at the full one only."""

    def budgets(self, images: int) -> list[int]:
        """Images of each rung, the last of them the full budget."""
        return [images]

    def survivors(self, count: int) -> list[int]:
        """How many of `count` schedules enter each rung."""
        return [count]

    def entering(self, trials: int) -> list[int]:
        """How many of all schedules enter each rung, whose budgets `budgets` are."""
        size = self.bracket(trials)
        brackets = [self.survivors(min(size, trials - start)) for start in range(0, trials, size)]
        return [sum(rung) for rung in zip(*brackets, strict=True)]

    def low_trials(self, trials: int) -> int:
        """Runs at smaller budgets."""
        return sum(self.entering(trials)[:-1])

    def spared(self, trials: int, images: int) -> int:
        """Images by which all runs at smaller budgets together fall short of the full one, `images` each."""
        entering = zip(self.entering(trials), self.budgets(images), strict=True)
        return sum(many * (images - budget) for many, budget in entering)

    def full_trials(self, trials: int) -> int:
        """Runs at the full budget."""
        return self.entering(trials)[-1]

    def bracket(self, trials: int) -> int:
        """How many schedules compete before the next ones are chosen."""
        return trials


class FullBudget(_Halving):
    """Every schedule is tried at the full budget."""

    rule: Literal["none"] = "none"
    """No smaller budgets."""


class AfterLastStage(_Halving):
    """Asynchronous successive halving (Li et al. 2020) that ignores a trial before its last stage."""

    rule: Literal["after_last_stage"]
    """Trials run at the full budget with looks at their score; the worse of those in their last stage are stopped."""
    reduction: int = Field(default=2, ge=2, le=10)
    """A look stops a trial that is not in the best 1/reduction of those scored after as many images."""
    rungs: int = Field(default=3, ge=1, le=16)
    """Number of equally spaced looks within the budget; each scores a preview."""
    settle: float = Field(default=0.1, ge=0, lt=1)
    """The share of the budget for which a trial must have been in its last stage before a look counts."""
    num_samples: int = Field(default=500, ge=16, le=1_000_000)
    """Samples of a preview."""

    def preview(self, images: int) -> dict[str, int]:
        """The previews of a trial of `images` images, as settings."""
        return {"every_images": max(1, images // (self.rungs + 1)), "num_samples": self.num_samples}


class Compressed(_Halving):
    """Successive halving (Jamieson & Talwalkar 2016) over budgets; each rung runs the whole schedule, compressed."""

    rule: Literal["compressed"]
    """Lower rungs run the whole schedule at a smaller budget."""
    reduction: int = Field(default=4, ge=2, le=10)
    """The best 1/reduction of a rung are promoted to the next, whose budget is `reduction` times as large. With 2 and
    one rung nothing is saved."""
    rungs: int = Field(default=1, ge=1, le=6)
    """Number of budgets below the full one."""

    def budgets(self, images: int) -> list[int]:
        """Images of each rung, the last of them the full budget."""
        return [max(1, images // self.reduction**left) for left in range(self.rungs, -1, -1)]

    def survivors(self, count: int) -> list[int]:
        """How many of `count` schedules enter each rung; at least one is promoted."""
        return [max(1, count // self.reduction**rung) for rung in range(self.rungs + 1)]

    def bracket(self, trials: int) -> int:
        """Schedules per bracket: the fewest of which one reaches the top, so that the sampler learns in between."""
        return min(trials, self.reduction**self.rungs)


HalvingSpec = Annotated[FullBudget | Compressed | AfterLastStage, Field(discriminator="rule")]


def promoted(scores: Mapping[KeyT, float], keep: int, lower_is_better: bool = True) -> list[KeyT]:
    """The keys of the `keep` best of a rung, the best first; a tie goes to the earlier key."""
    sign = 1 if lower_is_better else -1
    return sorted(scores, key=lambda key: (sign * scores[key], key))[:keep]
