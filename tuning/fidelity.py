"""Smaller budgets that do not punish a curriculum: the whole schedule compressed, never the start of a long one.

A curriculum cut short has never seen low noise, and its score is catastrophic (a Fréchet distance of 734 at 100
steps against 83 for uniform sampling; 9.6 against 10.0 at 1,200). A scheduler that stops the worst at each rung,
such as ASHA (Li et al. 2020), therefore kills slow curricula for what they have not been shown yet. Here a rung is a
run of its own whose budget is smaller and whose schedule, in shares of the budget, is run whole. Nothing can be
carried over from rung to rung, so a rung costs its full budget: that is the price of a fair comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from curriculum_ray.config import Spec

__all__ = ["Compressed", "FidelitySpec", "FullBudget", "promoted"]


class FullBudget(Spec):
    """Every schedule is tried at the full budget."""

    rule: Literal["none"] = "none"
    """No smaller budgets."""

    def budgets(self, images: int) -> list[int]:
        """Images of each rung, the last of them the full budget."""
        return [images]

    def survivors(self, count: int) -> list[int]:
        """How many of `count` schedules enter each rung."""
        return [count]

    def low_trials(self, trials: int) -> int:
        """Runs at smaller budgets."""
        return 0

    def full_trials(self, trials: int) -> int:
        """Runs at the full budget."""
        return trials

    def bracket(self, trials: int) -> int:
        """How many schedules compete with each other before the next ones are chosen."""
        return trials


class Compressed(Spec):
    """Successive halving (Jamieson & Talwalkar 2016) over budgets; each rung runs the whole schedule, compressed."""

    rule: Literal["compressed"]
    """Lower rungs run the whole schedule at a smaller budget."""
    reduction: int = Field(default=2, ge=2, le=10)
    """The best 1/reduction of a rung go on to the next, whose budget is as many times as large."""
    rungs: int = Field(default=1, ge=1, le=6)
    """How many smaller budgets there are below the full one."""

    def budgets(self, images: int) -> list[int]:
        """Images of each rung, the last of them the full budget."""
        return [max(1, images // self.reduction**left) for left in range(self.rungs, -1, -1)]

    def survivors(self, count: int) -> list[int]:
        """How many of `count` schedules enter each rung; at least one goes on."""
        return [max(1, count // self.reduction**rung) for rung in range(self.rungs + 1)]

    def bracket(self, trials: int) -> int:
        """Schedules of one bracket: as few as reach the top with one, so that the sampler learns in between."""
        return min(trials, self.reduction**self.rungs)

    def _brackets(self, trials: int) -> list[list[int]]:
        size = self.bracket(trials)
        sizes = [min(size, trials - start) for start in range(0, trials, size)]
        return [self.survivors(size) for size in sizes]

    def low_trials(self, trials: int) -> int:
        """Runs at smaller budgets."""
        return sum(sum(survivors[:-1]) for survivors in self._brackets(trials))

    def full_trials(self, trials: int) -> int:
        """Runs at the full budget."""
        return sum(survivors[-1] for survivors in self._brackets(trials))


FidelitySpec = Annotated[FullBudget | Compressed, Field(discriminator="rule")]


def promoted(scores: Mapping[str, float], keep: int, lower_is_better: bool = True) -> list[str]:
    """The keys of the `keep` best of a rung, the best first; a tie goes to the earlier key."""
    sign = 1 if lower_is_better else -1
    return sorted(scores, key=lambda key: (sign * scores[key], key))[:keep]
