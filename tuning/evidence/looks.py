"""Every look at many confirmations at once, as arrays: what is known after each seed, and when they stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.intervals import half_widths
from tuning.evidence.scale import Scale

if TYPE_CHECKING:
    import numpy as np

__all__ = ["answers", "stops"]


def stops(
    table: np.ndarray,
    *,
    scale: Scale,
    rival: bool,
    least: int,
    margin: float,
    level: float = 0.95,
    in_turn: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stop many confirmations as a study does, by `tuning.evidence.differences.settled`.

    table: scores on this scale, (studies, arms, most seeds) of uniform sampling, the schedules and, last, the rival
    if there is one. in_turn: whether the schedules are named arms, by `tuning.evidence.in_turn`. Returns the number
    of seeds at the end, (studies,); whether each schedule beats uniform sampling by then, (studies, schedules); and
    whether every answer stands, (studies,).
    """
    import numpy as np

    studies, arms, most = table.shape
    if most < FIRST_SEEDS:
        schedules = arms - 1 - rival
        return np.full(studies, most), np.zeros((studies, schedules), bool), np.zeros(studies, bool)
    beats, _, stand = answers(table, scale=scale, rival=rival, margin=margin, level=level, in_turn=in_turn)
    n = np.arange(FIRST_SEEDS, most + 1)
    every = stand.all(1) & (n >= least)
    end = np.where(every.any(-1), every.argmax(-1), len(n) - 1)
    row = np.arange(studies)
    return n[end], beats[row, :, end], every[row, end]


def answers(
    table: np.ndarray,
    *,
    scale: Scale,
    rival: bool,
    margin: float,
    level: float = 0.95,
    in_turn: bool = False,
    failed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is known after `FIRST_SEEDS` and more seeds, three arrays of (studies, schedules, seeds - 2).

    Whether each schedule beats uniform sampling; whether its answer against uniform sampling stands; and whether all of
    its answers do, against the rival too where it beats uniform sampling, or of the first of named arms against the
    others in turn. table, in_turn: as in `stops`, of at least `FIRST_SEEDS` seeds. failed: whether the arm of a row
    failed on further seeds that the arm of a column finished, (arms, arms), so that it neither beats nor equals it;
    by default none did.
    """
    import numpy as np

    _, arms, most = table.shape
    n = np.arange(FIRST_SEEDS, most + 1)
    means = table.cumsum(-1)[..., FIRST_SEEDS - 1 :] / n
    ours = slice(1, arms - rival)
    failed = np.zeros((arms, arms), bool) if failed is None else failed

    def judge(place: int) -> tuple[np.ndarray, np.ndarray]:
        """Whether schedules beat the arm at this place, and whether the answers stand: (studies, schedules, looks)."""
        control = means[:, place][:, None]
        gain = control - means[:, ours]
        half = half_widths(table, (1 - level) / (arms - 1), place)[:, ours]
        here, there = failed[ours, place][:, None], failed[place, ours][:, None]
        beats, loses = (gain - half > 0) & ~here, (gain + half < 0) & ~there
        worse, better = (scale.difference(share, abs(control)) for share in (-margin, margin))
        equal = (gain - half >= worse) & (gain + half <= better) & ~here & ~there
        return beats, beats | loses | equal

    beats, first = judge(0)
    every = first & (~beats | judge(arms - 1)[1]) if rival else first.copy()
    wins = beats[:, 0]
    for other in range(2, arms) if in_turn else ():
        better, stand = judge(other)
        every[:, 0] &= ~wins | stand[:, 0]
        wins = wins & better[:, 0]
    return beats, first, every
