"""How many fresh seeds an effect needs: confirmations simulated with the noise of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.intervals import half_widths

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ExpectedSeeds", "answers", "expected_seeds", "stops"]


@dataclass(frozen=True)
class ExpectedSeeds:
    """The outcome of confirmations whose schedules are all better by one effect than uniform sampling and the rival."""

    effect: float
    """As a share of uniform sampling's metric, as is the noise."""
    noise: float
    """Standard deviation of a paired difference."""
    seeds: float
    """Mean number of seeds until every answer stands, or the most are run."""
    beats: float
    """Share of confirmations in which every schedule is said to beat uniform sampling."""
    undecided: float
    """Share in which an answer is still open after the most seeds."""

    def in_words(self) -> str:
        """In words: "better by 20%: 4.9 seeds on average, found in 97%"."""
        seeds = f"{self.seeds:.1f} seeds on average, found in {100 * self.beats:.0f}%"
        words = f"better by {100 * self.effect:.3g}%: {seeds}"
        return words + (f", undecided in {100 * self.undecided:.0f}%" if self.undecided >= 0.005 else "")


def expected_seeds(
    effect: float,
    noise: float,
    *,
    schedules: int,
    rival: bool,
    seeds: tuple[int, int],
    margin: float,
    level: float = 0.95,
    studies: int = 2000,
) -> ExpectedSeeds:
    """Simulate `studies` confirmations with normal noise; seeds: the least and the most."""
    import numpy as np

    arms = 1 + schedules + rival
    rng = np.random.default_rng(0)
    table = 1 + noise / math.sqrt(2) * rng.standard_normal((studies, arms, seeds[1]))
    table[:, 1 : 1 + schedules] -= effect
    ends, beats, standing = stops(table, rival=rival, least=seeds[0], margin=margin, level=level)
    return ExpectedSeeds(
        effect, noise, float(ends.mean()), float(beats.all(-1).mean()), float(1 - standing.mean())
    )


def stops(
    table: np.ndarray, *, rival: bool, least: int, margin: float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stop many confirmations as a study does, by `tuning.evidence.differences.settled`, for a metric where less is
    better.

    table: (studies, arms, most seeds) of uniform sampling, the schedules and, last, the rival if there is one. Returns
    the number of seeds at the end, (studies,); whether each schedule beats uniform sampling by then, (studies,
    schedules); and whether every answer stands, (studies,).
    """
    import numpy as np

    studies, arms, most = table.shape
    if most < FIRST_SEEDS:
        schedules = arms - 1 - rival
        return np.full(studies, most), np.zeros((studies, schedules), bool), np.zeros(studies, bool)
    beats, _, stand = answers(table, rival=rival, margin=margin, level=level)
    n = np.arange(FIRST_SEEDS, most + 1)
    every = stand.all(1) & (n >= least)
    end = np.where(every.any(-1), every.argmax(-1), len(n) - 1)
    row = np.arange(studies)
    return n[end], beats[row, :, end], every[row, end]


def answers(
    table: np.ndarray, *, rival: bool, margin: float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is known after `FIRST_SEEDS` and more seeds, three arrays of (studies, schedules, seeds - 2).

    Whether each schedule beats uniform sampling; whether its answer against uniform sampling stands; and whether all of
    its answers do, against the rival too where it beats uniform sampling. table: as in `stops`, of at least
    `FIRST_SEEDS` seeds.
    """
    import numpy as np

    _, arms, most = table.shape
    n = np.arange(FIRST_SEEDS, most + 1)
    means = table.cumsum(-1)[..., FIRST_SEEDS - 1 :] / n
    half = half_widths(table, (1 - level) / (arms - 1))[:, None]

    def judge(gain: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether a gain beats, and whether its answer stands, each (studies, schedules, looks)."""
        beats, bound = gain - half > 0, margin * abs(control)
        return beats, beats | (gain + half < 0) | ((gain - half >= -bound) & (gain + half <= bound))

    ours = means[:, 1 : arms - rival]
    beats, first = judge(means[:, :1] - ours, means[:, :1])
    every = first & (~beats | judge(means[:, -1:] - ours, means[:, -1:])[1]) if rival else first
    return beats, first, every
