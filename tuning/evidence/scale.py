"""The scale on which a metric is compared: ratios where its noise grows with it, differences elsewhere.

The noise of a Fréchet distance is about proportional to it: on the digits, arms with a mean FID from 3.7 to 37 vary
around their seeds by 5 to 13% of their own FID, which is 0.3 to 2.8 of it. Intervals pool the noise of all arms, and
that needs equal noise. So logarithms of such metrics are compared, whose differences are ratios: a gain of 20% is a
metric that is 0.8 times that of uniform sampling, each a geometric mean over the seeds. KID can be 0 or less, and
precision, recall and CLIP scores do not grow without end: of these the differences are compared.
`benchmarks/compare_rules.py` shows what each costs where it is the wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tuning.evidence.metrics import direction, is_positive

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Scale", "gain", "means"]

# A Fréchet distance of two equal sets is 0 up to rounding, which may take it below.
_LEAST = 1e-12


@dataclass(frozen=True)
class Scale:
    """Turns a metric into scores, of which less is better, and differences of scores into gains."""

    lower_is_better: bool = True
    ratios: bool = False
    """Scores are logarithms."""

    @classmethod
    def of(cls, metric: str) -> Scale:
        """The scale of a metric; ConfigError for an unknown one."""
        return cls(direction(metric) == "min", is_positive(metric))

    def scores(self, values: Iterable[float]) -> list[float]:
        """The scores of these values of the metric."""
        sign = 1.0 if self.lower_is_better else -1.0
        return [sign * (math.log(max(value, _LEAST)) if self.ratios else value) for value in values]

    def difference(self, share: float, control: float | np.ndarray) -> float | np.ndarray:
        """By how much a score is below the control's if it is better by this share of the control's metric.

        control: the size of the control's metric, which does not matter where scores are logarithms. Infinite where no
        metric above 0 is better by so much.
        """
        if not self.ratios:
            return share * control
        ratio = 1 - share if self.lower_is_better else 1 + share
        log = math.log(ratio) if ratio > 0 else -math.inf
        return -log if self.lower_is_better else log

    def in_units(self, difference: float, control: float) -> float:
        """A difference of scores in units of the metric, positive where the first is better than the control."""
        if not self.ratios:
            return difference
        sign = -1.0 if self.lower_is_better else 1.0
        return control * sign * math.expm1(sign * difference)


def means(metric: str) -> str:
    """What follows the word for a gain in this metric: ", by geometric means" where ratios are compared."""
    return ", by geometric means" if Scale.of(metric).ratios else ""


def gain(values: Iterable[float], controls: Iterable[float], metric: str) -> float:
    """By how many percent of the controls' metric these values are better (positive) or worse, by their means.

    NaN where the controls' mean is 0.
    """
    scale, controls = Scale.of(metric), list(controls)
    control = fmean(controls)
    difference = fmean(scale.scores(controls)) - fmean(scale.scores(values))
    return 100 * scale.in_units(difference, control) / abs(control) if control else math.nan
