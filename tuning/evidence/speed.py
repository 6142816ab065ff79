"""How many images a schedule needs to be as good as uniform sampling at its end: the speed-up, over fresh seeds.

Both arms of a seed are read from their previews (`history`), which share a number of samples: the Fréchet distance
falls with it, so that only previews are compared with previews.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.metrics import count

__all__ = ["SpeedUp", "images_to_reach", "speed_up"]


@dataclass(frozen=True)
class SpeedUp:
    """Images of uniform sampling's whole budget over the images that a schedule needs to be as good."""

    key: str
    """The arm's id."""
    name: str
    """The schedule in words."""
    ratio: float
    """Geometric mean over the seeds; above 1 is faster."""
    low: float | None
    high: float | None
    """Ends of the 95% t interval of `ratio`, taken over its logarithm; None with fewer than two seeds."""
    seeds: int
    """Seeds on which the schedule got there."""
    missed: int
    """Seeds on which it did not, within the budget; with any, `ratio` flatters it and has no interval."""
    images: float | None
    """Geometric mean of the images it took; None where it never got there."""

    def in_words(self) -> str:
        """Say it: "as good as uniform sampling's end after 31k images, 1.4 times [1.1, 1.8] as fast, 5 seeds"."""
        if not self.seeds or self.images is None:
            return f"never as good as uniform sampling at its end, {self.missed} seeds"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        missed = f", not on {self.missed} more" if self.missed else ""
        return (
            f"as good as uniform sampling at its end after {count(self.images)} images, {self.ratio:.2f} times"
            f"{interval} as fast, {self.seeds} seeds{missed}"
        )


def images_to_reach(history: Sequence[Sequence[float]], target: float) -> float | None:
    """Images at which a history of [images, FID], by images, is first at `target` or below; None where it never is.

    Linear between two points, as the FID falls through the target between them.
    """
    before: Sequence[float] | None = None
    for point in history:
        if point[1] <= target:
            if before is None or before[1] == point[1]:
                return float(point[0])
            share = (before[1] - target) / (before[1] - point[1])
            return float(before[0] + share * (point[0] - before[0]))
        before = point
    return None


def speed_up(ranking: Ranking) -> list[SpeedUp]:
    """The speed-up of each confirmed arm that has previews, beside uniform sampling on the same seeds."""
    controls = _histories(ranking.uniform) if ranking.uniform else {}
    result = []
    for arm in ranking.arms:
        ours = _histories(arm)
        shared = sorted(ours.keys() & controls.keys())
        if arm.is_uniform or not shared:
            continue
        logs, images, missed = [], [], 0
        for seed in shared:
            last, target = controls[seed][-1]
            # The control is as good as its end when it first gets there, which may be before its end.
            budget = images_to_reach(controls[seed], target) or last
            needed = images_to_reach(ours[seed], target)
            if needed is None:
                missed += 1
            else:
                logs.append(math.log(budget / needed))
                images.append(math.log(needed))
        result.append(_summary(arm, logs, images, missed))
    return result


def _summary(arm: Arm, logs: list[float], images: list[float], missed: int) -> SpeedUp:
    if not logs:
        return SpeedUp(arm.arm_id, arm.name, 0.0, None, None, 0, missed, None)
    mean, low, high = fmean(logs), None, None
    if len(logs) > 1 and not missed:
        from scipy.special import stdtrit

        half = float(stdtrit(len(logs) - 1, 0.975)) * stdev(logs) / math.sqrt(len(logs))
        low, high = math.exp(mean - half), math.exp(mean + half)
    return SpeedUp(
        arm.arm_id, arm.name, math.exp(mean), low, high, len(logs), missed, math.exp(fmean(images))
    )


def _histories(arm: Arm) -> dict[int, Sequence[Sequence[float]]]:
    """Previews by fresh seed."""
    return {record.seed: record.history for record in arm.confirmed if record.history}
