"""Whether a schedule beats uniform sampling: paired differences over fresh seeds, simultaneous intervals.

Arms share the initialisation, the data order and the sampling noise of each seed, so the seed's own luck cancels in the
difference. The interval of its mean is that of a sequential t test, which holds after every number of seeds at once
(see `tuning.evidence.boundary`): one may look after each seed, stop when the answer stands, and add seeds to a study
that has none yet. Student's t for a fixed number does not allow that: looked at after every seed from 3 to 20, it
claims a difference where there is none in 21% of studies.

With several schedules the noise is pooled over all arms, and the level is shared out among the arms (Bonferroni;
Dunnett 1955 treats comparisons with a control), so that the chance of any false claim stays below 1 - level. For the
noise to be equal, ratios of FID are compared rather than differences (see `tuning.evidence.scale`). Where it is not, a
noisy arm may hide among three or more: a pair's own noise then counts where it is the greater
(`tuning.evidence.intervals`).

A run that fails, e.g. as its loss diverged, leaves its seed out of the pairs. The seeds that are left flatter the arm,
so that it neither beats nor equals an arm that finished where it failed.

Four words are possible, the same for any two arms. An interval above 0 beats, one below 0 loses, and one within the
margin of practical equivalence, a share of the control's metric, is equal (two one-sided tests, Schuirmann 1987, at
half their usual error). A difference may be certain and yet smaller than the margin; then it beats or loses. Anything
else is undecided.

The second question, whether a schedule beats the best one-line rival (another weighting or base distribution without a
curriculum), is asked only of schedules that beat uniform sampling: a fixed sequence (Maurer et al. 1995), which keeps
the level without sharing it out again. Likewise, a rival is said to beat the schedules only if it beats uniform
sampling, and all of them. Other differences from the rival are shown and are no answers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from curriculum_ray.words import number_of
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.intervals import half_widths
from tuning.evidence.metrics import MARGIN, metric_name, number, percent
from tuning.evidence.scale import Scale

__all__ = [
    "Difference",
    "Word",
    "against_arm",
    "against_rival",
    "against_uniform",
    "answers_asked",
    "failures_in_words",
    "is_equal",
    "paired_differences",
    "settled",
    "surest",
]

Word = Literal["beats", "loses", "equal", "undecided"]
"""What is known of a difference: better, worse, within the margin, or none of these so far."""


@dataclass(frozen=True)
class Difference:
    """By how much a schedule is better than uniform sampling: positive is better, whatever the metric."""

    key: str
    """The arm's id."""
    name: str
    """The schedule in words."""
    mean: float
    """Mean over the seeds, in units of the metric: of ratios the geometric mean, times `control`."""
    low: float | None
    high: float | None
    """Ends of the simultaneous interval of `mean`; None with fewer than three seeds."""
    control: float
    """Mean metric of the arm that it is compared with, over the same seeds."""
    seeds: int
    """Number of seeds that both have."""
    level: float = 0.95
    """Probability that all intervals of the comparison contain their true differences, after any number of seeds."""
    margin: float = MARGIN
    """Differences smaller than this share of `control` are of no practical interest."""
    rival: bool = False
    """Whether the arm is a one-line rival rather than a schedule."""
    against: str = "uniform sampling"
    """The arm that it is compared with."""
    failed: int = 0
    """Seeds on which this arm's run failed and the other's finished."""
    other_failed: int = 0
    """Seeds on which the other arm's run failed and this one's finished."""
    asked: bool = True
    """Whether its verdict is an answer: the comparisons that come before it were won."""

    @property
    def beats(self) -> bool:
        """Whether it is better than the other arm beyond noise, and failed on no seed that the other finished."""
        return self.low is not None and self.low > 0 and not self.failed

    @property
    def loses(self) -> bool:
        """Whether it is worse than the other arm beyond noise, and finished on no seed on which the other failed."""
        return self.high is not None and self.high < 0 and not self.other_failed

    @property
    def verdict(self) -> Word:
        """What is known of the difference."""
        if self.beats or self.loses:
            return "beats" if self.beats else "loses"
        failed = self.failed + self.other_failed
        equal = is_equal(self.low, self.high, self.margin * abs(self.control), failed)
        return "equal" if equal else "undecided"

    @property
    def answer(self) -> str:
        """One of the four words, or that it is not asked."""
        return self.verdict if self.asked else "not asked"

    def percent(self, value: float) -> float:
        """Return a difference in percent of the other arm's metric."""
        return 100 * value / abs(self.control) if self.control else math.nan

    def in_words(self, metric: str) -> str:
        """Say the difference and its interval in percent: "8.1% FID [3.0, 12.9], 3 seeds, failed on 1 more".

        In units of the metric where the other arm's is 0, of which nothing is a share.
        """

        def size(value: float) -> str:
            return percent(self.percent(value)) if self.control else number(value)

        words = f"{size(self.mean)}{'%' if self.control else ''} {metric_name(metric)}"
        if self.low is not None and self.high is not None:
            words += f" [{size(self.low)}, {size(self.high)}]"
        return f"{words}, {number_of(self.seeds, 'seed')}{self.failures}"

    @property
    def failures(self) -> str:
        """What follows the number of seeds: ", failed on 1 more", or nothing."""
        return failures_in_words(self.failed, self.other_failed, self.against)

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the percentages."""
        low, high = (None if end is None else self.percent(end) for end in (self.low, self.high))
        return {
            **asdict(self),
            "verdict": self.answer,
            "percent": self.percent(self.mean),
            "percent_low": low,
            "percent_high": high,
            f"beats_{'uniform' if self.against == 'uniform sampling' else 'rival'}": self.asked
            and self.beats,
        }


def is_equal(low: float | None, high: float | None, bound: float, failed: int) -> bool:
    """Whether an interval lies within ± `bound`, and neither arm failed on a seed that the other finished."""
    return low is not None and high is not None and -bound <= low and high <= bound and not failed


def failures_in_words(failed: int, other_failed: int, against: str) -> str:
    """What follows the number of seeds of a comparison with the arm `against`, see `Difference.failures`."""
    words = f", failed on {failed} more" if failed else ""
    return words + (f", {against} failed on {other_failed} more" if other_failed else "")


def paired_differences(
    arms: Mapping[str, Mapping[int, float]],
    control: Mapping[int, float],
    *,
    scale: Scale,
    level: float = 0.95,
    margin: float = MARGIN,
) -> list[Difference]:
    """Compare each arm (key -> seed -> metric) with the control on the seeds that both have.

    Arms that share fewer than three seeds with the control have no interval, but their share of the level; those that
    share none are left out. Returns the differences, the largest gain first.
    """
    shared = {key: values for key, values in arms.items() if values.keys() & control.keys()}
    table = [control, *shared.values()]
    error = (1 - level) / max(1, len(shared))
    result = []
    for key, values in shared.items():
        seeds = sorted(values.keys() & control.keys())
        mean, low, high, beside = _compare(values, control, table, seeds, scale, error)
        result.append(Difference(key, key, mean, low, high, beside, len(seeds), level, margin))
    return sorted(result, key=lambda difference: -difference.mean)


def _compare(
    values: Mapping[int, float],
    control: Mapping[int, float],
    table: Sequence[Mapping[int, float]],
    seeds: Sequence[int],
    scale: Scale,
    error: float,
) -> tuple[float, float | None, float | None, float]:
    """The mean gain over the control on these seeds, its interval, and the control's mean, in units of the metric.

    Both are in the table, and the noise is that of all of its arms that have these seeds. No interval with fewer than
    three.
    """
    ours, theirs = (scale.scores(arm[seed] for seed in seeds) for arm in (values, control))
    mean, beside = fmean(theirs) - fmean(ours), fmean(control[seed] for seed in seeds)
    if len(seeds) < FIRST_SEEDS:
        return scale.in_units(mean, beside), None, None, beside
    import numpy as np

    whole = [arm for arm in table if arm.keys() >= set(seeds)]
    mine, against = (
        next(place for place, arm in enumerate(whole) if arm is one) for one in (values, control)
    )
    scores = np.array([scale.scores(arm[seed] for seed in seeds) for arm in whole])
    half = float(half_widths(scores, error, against)[mine, -1])
    middle, low, high = (scale.in_units(each, beside) for each in (mean, mean - half, mean + half))
    return middle, low, high, beside


def against_uniform(ranking: Ranking, level: float = 0.95) -> list[Difference]:
    """Compare the confirmed schedules of a study, and its best rival, with uniform sampling on their fresh seeds."""
    metric, uniform = ranking.metric, ranking.uniform
    if uniform is None:
        return []
    others = {arm.arm_id: arm for arm in ranking.confirmed if not arm.is_uniform}
    differences = paired_differences(
        {key: arm.by_seed(metric) for key, arm in others.items()},
        uniform.by_seed(metric),
        scale=Scale.of(metric),
        level=level,
        margin=ranking.margin,
    )
    result = []
    for found in differences:
        arm = others[found.key]
        named = replace(found, name=arm.name, rival=arm.is_rival)
        result.append(_with_failures(named, ranking, arm, uniform))
    return result


def _with_failures(found: Difference, ranking: Ranking, arm: Arm, other: Arm) -> Difference:
    """The same, with the number of seeds on which one of the two arms failed and the other finished."""
    failed, other_failed = ranking.failed_beside(arm, other), ranking.failed_beside(other, arm)
    return replace(found, failed=len(failed), other_failed=len(other_failed))


def against_rival(ranking: Ranking, level: float = 0.95) -> list[Difference]:
    """Compare the confirmed schedules with the best confirmed rival, each at the error of its first comparison.

    Asked are those that beat uniform sampling; and all where the rival beats uniform sampling and every schedule. Empty
    without such a rival.
    """
    first = against_uniform(ranking, level)
    rivals = [found for found in first if found.rival and found.low is not None]
    if not rivals:
        return []
    best = max(rivals, key=lambda found: found.mean)
    schedules = [found.key for found in first if not found.rival]
    ahead = {found.key for found in first if found.beats and not found.rival}
    second = [found for found in against_arm(ranking, best.key, level) if not found.rival]
    beaten = best.beats and len(second) == len(schedules) and all(found.loses for found in second)
    return [replace(found, asked=beaten or found.key in ahead) for found in second]


def against_arm(ranking: Ranking, key: str, level: float = 0.95) -> list[Difference]:
    """Compare the other arms with that of the id `key`, each at the error of its comparison with uniform sampling.

    Arms that share fewer than three seeds with it are left out.
    """
    first, other = against_uniform(ranking, level), ranking.arm(key)
    if not first:
        return []
    metric = ranking.metric
    scale = Scale.of(metric)
    table = {arm.arm_id: arm.by_seed(metric) for arm in ranking.confirmed}
    error = (1 - level) / len(first)
    result = []
    for found in first:
        ours, theirs = table[found.key], table[key]
        seeds = sorted(ours.keys() & theirs.keys())
        if found.key == key or found.low is None or len(seeds) < FIRST_SEEDS:
            continue
        mean, low, high, control = _compare(ours, theirs, list(table.values()), seeds, scale, error)
        compared = replace(
            found,
            mean=mean,
            low=low,
            high=high,
            control=control,
            seeds=len(seeds),
            against=other.name,
        )
        result.append(_with_failures(compared, ranking, ranking.arm(found.key), other))
    return sorted(result, key=lambda found: -found.mean)


def surest(compared: Sequence[Difference]) -> Difference:
    """The one to speak of: the largest gain of those that beat the other arm, else of all; it need not be the same."""
    return max(compared, key=lambda found: (found.beats, found.mean))


def answers_asked(ranking: Ranking, arms: Collection[str] | None = None) -> list[Difference]:
    """The comparisons that the study is for: of its confirmed schedules with uniform sampling and, where they beat it,
    with the best rival.

    arms: the ids of the schedules that are asked about, by default of all; those that an earlier search of the study
    confirmed get no further seeds. Whether the rival beats uniform sampling is no question of its own: it is said as
    far as it is known by then.
    """
    first = [
        found for found in against_uniform(ranking) if not found.rival and (arms is None or found.key in arms)
    ]
    ahead = {found.key for found in first if found.beats}
    return [*first, *(found for found in against_rival(ranking) if found.key in ahead)]


def settled(ranking: Ranking, arms: Collection[str] | None = None) -> bool:
    """Whether there are such comparisons, and the answers of all of them stand. arms: as in `answers_asked`."""
    asked = answers_asked(ranking, arms)
    return bool(asked) and all(found.verdict != "undecided" for found in asked)
