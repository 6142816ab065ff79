"""Whether the fresh seeds that are still allowed could settle what is open: the predictive power of a confirmation.

Given the seeds so far, the noise and the true means are drawn from their posterior under a flat prior (the noise from a
scaled inverse chi-squared distribution, the means around those seen), the seeds still allowed are drawn on top, and the
study's own rule is asked about each of these futures. The share in which the next open question is settled is the
predictive power (Spiegelhalter, Freedman & Blackburn 1986; Jennison & Turnbull 2000, "Group sequential methods with
applications to clinical trials", §10.3). A study that gives up where it is low makes fewer claims, never more: the
level is kept, whether or not one gives up.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tuning.evidence.arms import Ranking
from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.differences import against_uniform, settled
from tuning.evidence.looks import answers
from tuning.evidence.scale import Scale

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FEWEST_TO_GIVE_UP", "power_left", "predictive_power"]

FEWEST_TO_GIVE_UP = 5
"""Seeds before which no study gives up: its interval would be too wide to be of use."""
_FUTURES = 1000


def power_left(ranking: Ranking, left: int, asked: Collection[str] | None = None) -> float:
    """The largest chance that `left` further seeds settle an open question of a confirmed schedule; 0 for none.

    1 where that cannot be said yet: before `FEWEST_TO_GIVE_UP` seeds that all have. Questions that are settled do not
    count, nor does a rival that failed on most seeds. asked: the ids of the schedules that get further seeds, by
    default of all.
    """
    import numpy as np

    metric = ranking.metric
    scale = Scale.of(metric)
    ours = [
        *(arm for arm in ranking.confirmed if arm.is_uniform),
        *(arm for arm in ranking.tried if arm.confirmed and (asked is None or arm.arm_id in asked)),
    ]
    best = [arm for arm in ranking.confirmed if arm.is_rival][:1]
    rivals = [arm for arm in best if len(ranking.failed_seeds(arm)) <= len(arm.confirmed)]
    arms = [*ours, *rivals]
    by_seed = [arm.by_seed(metric) for arm in arms]
    seeds = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
    if settled(ranking, asked) or left <= 0:
        return 0.0
    if len(seeds) < FEWEST_TO_GIVE_UP or not against_uniform(ranking):
        return 1.0
    if len(arms) == 1 + len(rivals):  # the schedules that are asked about failed on every seed
        return 0.0
    table = np.array([scale.scores(values[seed] for seed in seeds) for values in by_seed])
    # The schedules that are asked about have their own shares of the level, and no more.
    level = 1 - 0.05 * (len(arms) - 1) / (len(ranking.confirmed) - 1)
    most = len(seeds) + left
    failed = np.array([[bool(ranking.failed_beside(arm, other)) for other in arms] for arm in arms])
    chances = predictive_power(
        table, most, scale=scale, rival=bool(rivals), margin=ranking.margin, level=level, failed=failed
    )
    return float(chances.max(initial=0.0))


def predictive_power(
    table: np.ndarray,
    most: int,
    *,
    scale: Scale,
    rival: bool,
    margin: float,
    level: float = 0.95,
    failed: np.ndarray | None = None,
) -> np.ndarray:
    """The chance that the next open question of each schedule is settled by `most` seeds, (schedules,); 0 without one.

    The first question is uniform sampling; the second, of a schedule that beats it, the rival. table: scores on
    this scale, (arms, seeds) of uniform sampling, the schedules and, last, the rival if there is one, over at least
    `FIRST_SEEDS` seeds. failed: as in `tuning.evidence.looks.answers`. A function of its arguments: the futures are
    always drawn from one seed.
    """
    import numpy as np

    arms, seeds = table.shape
    assert FIRST_SEEDS <= seeds <= most
    rng = np.random.default_rng(0)
    means = table.mean(-1, keepdims=True)
    rest = table - means - table.mean(0) + table.mean()
    freedom = (arms - 1) * (seeds - 1)
    deviation = np.sqrt((rest**2).sum() / rng.chisquare(freedom, (_FUTURES, 1, 1)))
    true = means + deviation / np.sqrt(seeds) * rng.standard_normal((_FUTURES, arms, 1))
    further = true + deviation * rng.standard_normal((_FUTURES, arms, most - seeds))
    whole = np.concatenate([np.broadcast_to(table, (_FUTURES, arms, seeds)), further], axis=-1)
    _, first, every = answers(whole, scale=scale, rival=rival, margin=margin, level=level, failed=failed)
    now = seeds - FIRST_SEEDS

    def settled_later(stand: np.ndarray) -> np.ndarray:
        later: np.ndarray = stand[:, :, now + 1 :].any(-1).mean(0)
        return later

    second = np.where(every[0, :, now], 0.0, settled_later(every))
    return np.where(first[0, :, now], second, settled_later(first))
