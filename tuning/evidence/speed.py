"""The speed-up of a schedule: how soon it is as good as uniform sampling at its end, over fresh seeds.

Both arms of a seed are read from their previews, which have equally many samples: the Fréchet distance falls with
their number, so previews are compared only with previews.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from curriculum_ray.words import number_of
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.boundary import FIRST_SEEDS, critical_values
from tuning.evidence.metrics import count, direction
from tuning.evidence.previews import compared_by, curve

__all__ = ["SpeedUp", "images_to_reach", "speed_up"]


@dataclass(frozen=True)
class SpeedUp:
    """Images that uniform sampling needs to be as good as at its end, over those that a schedule needs."""

    key: str
    """The arm's id."""
    name: str
    """The schedule in words."""
    ratio: float
    """Geometric mean over the seeds; above 1 is faster."""
    low: float | None
    high: float | None
    """Ends of the 95% interval of `ratio`, taken over its logarithm; None with fewer than three seeds.

    Like those of the metric's differences, it holds after every number of seeds (see `tuning.evidence.boundary`).
    """
    seeds: int
    """Seeds on which the schedule got there."""
    missed: int
    """Seeds on which it did not, within the budget, or its run failed; if there are any, `ratio` flatters it and has no
    interval."""
    images: float | None
    """Geometric mean of the images it took; None where it never got there."""
    metric: str
    """Of the previews by which the two were compared: the study's where all have it, else fid."""

    def in_words(self) -> str:
        """In words: "as good as uniform sampling's end after 31k images, 1.4 times [1.1, 1.8] as fast, 5 seeds"."""
        if not self.seeds or self.images is None:
            return f"never as good as uniform sampling at its end, {number_of(self.missed, 'seed')}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        missed = f", not on {self.missed} more" if self.missed else ""
        return (
            f"as good as uniform sampling at its end after {count(self.images)} images, {self.ratio:.2f} times"
            f"{interval} as fast, {number_of(self.seeds, 'seed')}{missed}"
        )


def images_to_reach(points: Sequence[tuple[int, float]], target: float, metric: str = "fid") -> float | None:
    """Images at which the `metric` of (images, metric) points, by images, is first as good as `target`; None if never.

    Interpolated linearly between the two points around the target.
    """
    sign = 1 if direction(metric) == "min" else -1
    before: tuple[int, float] | None = None
    for images, value in points:
        if sign * value <= sign * target:
            if before is None or before[1] == value:
                return float(images)
            share = (before[1] - target) / (before[1] - value)
            return float(before[0] + share * (images - before[0]))
        before = images, value
    return None


def speed_up(ranking: Ranking) -> list[SpeedUp]:
    """The speed-up of each confirmed arm that has previews, beside uniform sampling on the same seeds.

    Previews are compared by the ranking's metric where all of them have it, by FID otherwise.
    """
    histories = [record.history for arm in ranking.arms for record in arm.confirmed if record.history]
    metric = compared_by(histories, ranking.metric)
    controls = _curves(ranking.uniform, metric) if ranking.uniform else {}
    result = []
    for arm in ranking.arms:
        ours = _curves(arm, metric)
        shared = sorted(ours.keys() & controls.keys())
        if arm.is_uniform or not shared:
            continue
        logs, images, missed = [], [], len(ranking.failed_seeds(arm) & controls.keys())
        for seed in shared:
            last, target = controls[seed][-1]
            # The control may be as good as at its end already before its end.
            budget = images_to_reach(controls[seed], target, metric) or last
            needed = images_to_reach(ours[seed], target, metric)
            if needed is None:
                missed += 1
            else:
                logs.append(math.log(budget / needed))
                images.append(math.log(needed))
        result.append(_summary(arm, logs, images, missed, metric))
    return result


def _summary(arm: Arm, logs: list[float], images: list[float], missed: int, metric: str) -> SpeedUp:
    if not logs:
        return SpeedUp(arm.arm_id, arm.name, 0.0, None, None, 0, missed, None, metric)
    mean, low, high = fmean(logs), None, None
    if len(logs) >= FIRST_SEEDS and not missed:
        half = critical_values(1, 0.05, len(logs))[-1] * stdev(logs) / math.sqrt(len(logs))
        low, high = math.exp(mean - half), math.exp(mean + half)
    return SpeedUp(
        arm.arm_id, arm.name, math.exp(mean), low, high, len(logs), missed, math.exp(fmean(images)), metric
    )


def _curves(arm: Arm, metric: str) -> dict[int, list[tuple[int, float]]]:
    """(images, metric) of the previews by fresh seed."""
    return {record.seed: points for record in arm.confirmed if (points := curve(record.history, metric))}
