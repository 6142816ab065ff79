"""Differences between named arms as they are stored and shown: one of the four words, and percents with intervals."""

from __future__ import annotations

import math

import pydantic

from curriculum_ray.words import number_of
from tuning.evidence.differences import Difference, Word, failures_in_words, is_equal
from tuning.evidence.metrics import percent, within

__all__ = ["Compared", "Turn", "compared", "difference", "in_full", "verdict"]


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Compared(_Frozen):
    """The difference of two arms, positive where the first is better; in percent of the other's metric."""

    word: Word
    percent: float
    low: float
    high: float
    seeds: int
    """Seeds that both finished."""
    failed: int = 0
    """Further seeds, on which the first failed and the other finished."""
    other_failed: int = 0
    """Further seeds, on which the other failed and the first finished."""

    def failures(self, against: str) -> str:
        """What follows the number of seeds: ", failed on 1 more", or nothing. against: the other's name."""
        return failures_in_words(self.failed, self.other_failed, against)

    def judged(self, margin: float) -> Compared:
        """The same by another margin, a share of the other's metric, on which beating and losing do not depend."""
        if self.word in ("beats", "loses"):
            return self
        equal = is_equal(self.low, self.high, 100 * margin, self.failed + self.other_failed)
        return self.model_copy(update={"word": "equal" if equal else "undecided"})


class Turn(_Frozen):
    """The first of several named arms against another one, when its turn comes."""

    name: str
    """The first arm."""
    against: str
    compared: Compared | None
    """None with fewer than three fresh seeds."""
    asked: bool
    """Whether it counts: all comparisons before it were won."""

    def verdict(self, margin: float) -> str:
        """One of the four words, or that it is not asked; a dash with fewer than three seeds."""
        return verdict(self.compared, margin) if self.asked or self.compared is None else "not asked"

    def in_words(self, margin: float) -> str:
        """The verdict and the difference: "beats: +8.1% [3.0, 12.9]"."""
        if self.compared is None:
            return "–"
        return f"{self.verdict(margin)}: {in_full(self.compared, self.against)}"


def compared(found: Difference | None) -> Compared | None:
    """A difference in this form; None without an interval."""
    if found is None or found.low is None or found.high is None:
        return None
    low, high = found.percent(found.low), found.percent(found.high)
    return Compared(
        word=found.verdict,
        percent=found.percent(found.mean),
        low=low,
        high=high,
        seeds=found.seeds,
        failed=found.failed,
        other_failed=found.other_failed,
    )


def verdict(found: Compared | None, margin: float) -> str:
    """One of the four words; a dash with fewer than three seeds."""
    if found is None:
        return "–"
    return f"equal within {within(margin)}" if found.word == "equal" else found.word


def difference(found: Compared | None) -> str:
    """E.g. "+8.1% [3.0, 12.9]", positive is better; a dash for none, and where the other's metric is 0."""
    if found is None or not math.isfinite(found.percent):
        return "–"
    return f"{percent(found.percent, '+')}% [{percent(found.low)}, {percent(found.high)}]"


def in_full(found: Compared | None, against: str) -> str:
    """The difference and, where runs failed, on how many seeds: "+8.1% [3.0, 12.9], 5 seeds, failed on 1 more".

    against: the other's name.
    """
    failures = "" if found is None else found.failures(against)
    return difference(found) + (f", {number_of(found.seeds, 'seed')}{failures}" if found and failures else "")
