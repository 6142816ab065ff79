"""Whether a schedule beats uniform sampling: paired differences over fresh seeds, simultaneous intervals.

Arms share the initialisation, the data order and the sampling noise of each seed, so the seed's own luck
cancels in the difference. The seeds are few, so a percentile bootstrap undercovers badly: with three values
its interval is at most their range, which misses the true mean in one case of four. So the interval here is always
Student's t (Student 1908): exact for normal differences at any number of seeds, and conservative for skewed or
heavy-tailed ones (simulated).

With several schedules the noise is pooled over all arms, as in a randomised block design with the seeds as
blocks, and the level is shared out among the arms (Bonferroni; Dunnett 1955 treats comparisons with a
control), so that the chance of any false claim stays below 1 - level. With one schedule this is the ordinary
paired t interval.

The second question, whether a schedule beats the best one-line rival (another weighting or base distribution without a
curriculum), is asked only of schedules that beat uniform sampling: a fixed sequence (Maurer et al. 1995), which keeps
the level without sharing it out again. Likewise, a rival is said to beat the schedules only if it beats uniform
sampling.

Simulated null studies name a false winner in 2 to 3% of cases, and in 4% where one arm is three times as noisy as the
others; an effect of two paired standard deviations is found in 45% of cases with 3 seeds and in over 90% with 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from tuning.evidence.arms import Ranking
from tuning.evidence.metrics import direction, metric_name

__all__ = ["Difference", "against_rival", "against_uniform", "paired_differences"]


@dataclass(frozen=True)
class Difference:
    """By how much a schedule is better than uniform sampling: positive is better, whatever the metric."""

    key: str
    """The arm's id."""
    name: str
    """The schedule in words."""
    mean: float
    """Mean over the seeds, in units of the metric."""
    low: float | None
    high: float | None
    """Ends of the simultaneous interval of `mean`; None with fewer than two seeds."""
    control: float
    """Mean metric of uniform sampling over the same seeds."""
    seeds: int
    """Number of seeds that both have."""
    level: float = 0.95
    """Probability that all intervals of the comparison contain their true differences."""
    rival: bool = False
    """Whether the arm is a one-line rival rather than a schedule."""
    against: str = "uniform sampling"
    """The arm that it is compared with."""

    @property
    def beats(self) -> bool:
        """Whether it is better than uniform sampling beyond noise."""
        return self.low is not None and self.low > 0

    @property
    def loses(self) -> bool:
        """Whether it is worse than uniform sampling beyond noise."""
        return self.high is not None and self.high < 0

    def percent(self, value: float) -> float:
        """Return a difference in percent of uniform sampling's metric."""
        return 100 * value / abs(self.control) if self.control else math.nan

    def in_words(self, metric: str) -> str:
        """Say the difference and its interval in percent: "8.1% FID [3.0, 12.9], 3 seeds"."""
        words = f"{self.percent(self.mean):.1f}% {metric_name(metric)}"
        if self.low is not None and self.high is not None:
            words += f" [{self.percent(self.low):.1f}, {self.percent(self.high):.1f}]"
        return f"{words}, {self.seeds} seed{'s' if self.seeds != 1 else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the percentages."""
        low, high = (None if end is None else self.percent(end) for end in (self.low, self.high))
        return {
            **asdict(self),
            "percent": self.percent(self.mean),
            "percent_low": low,
            "percent_high": high,
            f"beats_{'uniform' if self.against == 'uniform sampling' else 'rival'}": self.beats,
        }


def paired_differences(
    arms: Mapping[str, Mapping[int, float]],
    control: Mapping[int, float],
    *,
    lower_is_better: bool = True,
    level: float = 0.95,
) -> list[Difference]:
    """Compare each arm (key -> seed -> metric) with the control on the seeds that all of them have.

    Arms that share fewer than two seeds with the control are compared on those, without an interval.
    Returns the differences, the largest gain first.
    """
    paired = {name: sorted(values.keys() & control.keys()) for name, values in arms.items()}
    tested = [name for name, seeds in paired.items() if len(seeds) >= 2]
    common = sorted(set(control).intersection(*(paired[name] for name in tested))) if tested else []
    sign = 1.0 if lower_is_better else -1.0
    result = []
    half = _half_width([[arms[name][seed] for seed in common] for name in tested], control, common, level)
    for key, seeds in paired.items():
        used = common if key in tested and len(common) >= 2 else seeds
        if not used:
            continue
        mean = fmean(sign * (control[seed] - arms[key][seed]) for seed in used)
        low, high = (mean - half, mean + half) if half is not None and key in tested else (None, None)
        uniform = fmean(control[seed] for seed in used)
        result.append(Difference(key, key, mean, low, high, uniform, len(used), level))
    return sorted(result, key=lambda difference: -difference.mean)


def _half_width(
    rows: Sequence[Sequence[float]], control: Mapping[int, float], seeds: Sequence[int], level: float
) -> float | None:
    """Half the length of the simultaneous intervals of (control - arm), or None with fewer than two seeds.

    Two-way layout without interaction, arms i = 0..k (the control among them) and seeds j = 1..n:
    MSE = sum_ij (x_ij - mean_i - mean_j + mean)^2 / (k (n - 1)); the contrast's variance is 2 MSE / n.
    """
    n, k = len(seeds), len(rows)
    if n < 2 or k < 1:
        return None
    from scipy.special import stdtrit

    table = [[control[seed] for seed in seeds], *rows]
    arm_means = [fmean(row) for row in table]
    seed_means = [fmean(row[j] for row in table) for j in range(n)]
    mean = fmean(arm_means)
    squares = sum(
        (row[j] - arm_means[i] - seed_means[j] + mean) ** 2 for i, row in enumerate(table) for j in range(n)
    )
    freedom = k * (n - 1)
    quantile = float(stdtrit(freedom, 1 - (1 - level) / (2 * k)))
    return quantile * math.sqrt(2 * squares / freedom / n)


def against_uniform(ranking: Ranking, level: float = 0.95) -> list[Difference]:
    """Compare the confirmed schedules of a study, and its best rival, with uniform sampling on their fresh seeds."""
    metric = ranking.metric
    others = {arm.arm_id: arm for arm in ranking.confirmed if not arm.is_uniform}
    differences = paired_differences(
        {key: arm.by_seed(metric) for key, arm in others.items()},
        {} if ranking.uniform is None else ranking.uniform.by_seed(metric),
        lower_is_better=direction(metric) == "min",
        level=level,
    )
    return [
        replace(found, name=others[found.key].name, rival=others[found.key].is_rival) for found in differences
    ]


def against_rival(ranking: Ranking, level: float = 0.95) -> list[Difference]:
    """Compare the confirmed schedules with the best confirmed rival, with the width of `against_uniform`'s intervals.

    Claims count only for schedules that beat uniform sampling; see `answer.rival_verdict`. Empty without such a rival.
    """
    first = [found for found in against_uniform(ranking, level) if found.low is not None]
    rivals = [found for found in first if found.rival]
    if not rivals:
        return []
    rival = max(rivals, key=lambda found: found.mean)
    result = []
    for found in first:
        if found.rival or found.low is None:
            continue
        mean, half = found.mean - rival.mean, found.mean - found.low
        sign = 1.0 if direction(ranking.metric) == "min" else -1.0
        result.append(
            replace(
                found,
                mean=mean,
                low=mean - half,
                high=mean + half,
                control=rival.control - sign * rival.mean,
                against=rival.name,
            )
        )
    return sorted(result, key=lambda found: -found.mean)
