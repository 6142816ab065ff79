"""What an arm scored beside uniform sampling: the mean over seeds, and how far the seeds spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from tuning.evidence.arms import Arm, paired_by_seed
from tuning.evidence.metrics import number

__all__ = ["Score", "scores"]


@dataclass(frozen=True)
class Score:
    """A metric of one arm over the seeds that it shares with what it is compared with."""

    name: str
    """The schedule in words."""
    mean: float
    spread: float | None
    """Standard deviation over the seeds; None of one seed."""
    seeds: int
    fresh: bool
    """Whether these are seeds that the search never saw; the search's own flatter what it chose."""

    def in_words(self) -> str:
        """Say it: "8.50 ± 0.51 over 3 fresh seeds"."""
        mean = number(self.mean)
        decimals = len(mean.partition(".")[2])
        if self.spread is None:
            spread = ""
        elif abs(self.mean) < 0.1:  # written without zeros at its end, which says nothing of decimals
            spread = f" ± {number(self.spread)}"
        else:
            spread = f" ± {self.spread:.{decimals}f}"
        kind = "fresh seed" if self.fresh else "seed of the search"
        many = kind.replace("seed", "seeds", 1) if self.seeds != 1 else kind
        return f"{mean}{spread} over {self.seeds} {many}"


def scores(arm: Arm, uniform: Arm | None, metric: str) -> tuple[Score, Score | None]:
    """The scores of an arm and of uniform sampling, over fresh seeds if the arm has them, else over the search's.

    The second is None without such runs of uniform sampling.
    """
    ours, theirs = paired_by_seed(arm, uniform, metric)
    fresh = bool(arm.confirmed)
    beside = None if uniform is None or not theirs else _score(uniform.description, theirs, fresh)
    return _score(arm.name, ours, fresh), beside


def _score(name: str, values: Mapping[int, float], fresh: bool) -> Score:
    spread = stdev(values.values()) if len(values) > 1 else None
    return Score(name, fmean(values.values()), spread, len(values), fresh)
