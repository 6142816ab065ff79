"""How many fresh seeds an effect needs: confirmations simulated with the noise of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.futility import FEWEST_TO_GIVE_UP, predictive_power
from tuning.evidence.looks import answers, stops
from tuning.evidence.scale import Scale

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ExpectedSeeds", "expected_seeds"]


@dataclass(frozen=True)
class ExpectedSeeds:
    """The outcome of confirmations whose schedules are all better by one effect than uniform sampling and the rival."""

    effect: float
    """As a share of uniform sampling's metric, as is the noise; 0 where nothing differs."""
    noise: float
    """Standard deviation of a paired difference."""
    seeds: float
    """Mean number of seeds until every answer stands, the study gives up, or the most are run."""
    beats: float
    """Share of confirmations in which every schedule is said to beat uniform sampling."""
    undecided: float
    """Share in which an answer is still open at the end."""
    given_up: float = 0.0
    """Share that give up before the most seeds, which are among the undecided."""

    def in_words(self) -> str:
        """In words: "better by 20%: about 4.9 seeds on average, found in 97%"."""
        what = f"better by {100 * self.effect:.3g}%" if self.effect else "no difference"
        words = f"{what}: about {self.seeds:.1f} seeds on average"
        if self.effect:
            words += f", found in {100 * self.beats:.0f}%"
        if self.undecided >= 0.005:
            words += f", some answer undecided in {100 * self.undecided:.0f}%"
        if self.given_up >= 0.005:
            words += f" (given up early in {100 * self.given_up:.0f}%)"
        return words


def expected_seeds(
    effect: float,
    noise: float,
    *,
    scale: Scale,
    schedules: int,
    rival: bool,
    seeds: tuple[int, int],
    margin: float,
    futility: float = 0.0,
    level: float = 0.95,
    studies: int | None = None,
    in_turn: bool = False,
) -> ExpectedSeeds:
    """Simulate confirmations with normal noise; seeds: the least and the most.

    in_turn: whether the schedules are named arms, the first of which is compared with the others too.

    futility: the chance of an answer below which a study gives up, as it is in `tuning.study.giving_up`; 0 for never.
    studies: how many to simulate; by default 2,000, or 200 where futility costs a thousand futures for every look.
    """
    import numpy as np

    (least, most), arms = seeds, 1 + schedules + rival
    gives_up = futility > 0 and most > max(least, FEWEST_TO_GIVE_UP)
    studies = studies or (200 if gives_up else 2000)
    rng = np.random.default_rng(0)
    # Of logarithms, 1 stands for any level; of other scores it is uniform sampling's.
    table = 1 + noise / math.sqrt(2) * rng.standard_normal((studies, arms, most))
    table[:, 1 : 1 + schedules] -= scale.difference(effect, 1.0)
    ends, beats, standing = stops(
        table, scale=scale, rival=rival, least=least, margin=margin, level=level, in_turn=in_turn
    )
    given_up = np.zeros(studies, bool)
    if gives_up:
        ends, given_up = _given_up(table, ends, scale, rival, least, margin, futility, level)
        beats = answers(table, scale=scale, rival=rival, margin=margin, level=level)[0]
        beats = beats[np.arange(studies), :, ends - FIRST_SEEDS]
    return ExpectedSeeds(
        effect,
        noise,
        float(ends.mean()),
        float(beats.all(-1).mean()),
        float(1 - (standing & ~given_up).mean()),
        float(given_up.mean()),
    )


def _given_up(
    table: np.ndarray,
    ends: np.ndarray,
    scale: Scale,
    rival: bool,
    least: int,
    margin: float,
    futility: float,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The number of seeds at the end of studies that may give up before `ends`, and whether they did, (studies,)."""
    import numpy as np

    most = table.shape[-1]
    found = ends.copy()
    for study, end in enumerate(ends):
        for seeds in range(max(least, FEWEST_TO_GIVE_UP), end):
            seen = table[study, :, :seeds]
            chances = predictive_power(seen, most, scale=scale, rival=rival, margin=margin, level=level)
            if chances.max(initial=0.0) < futility:
                found[study] = seeds
                break
    return found, np.asarray(found < ends)
