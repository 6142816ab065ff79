"""What a study registers in MLflow's model registry: the confirmed winner, or else uniform sampling."""

from __future__ import annotations

from dataclasses import dataclass

from tuning.evidence.answer import answer
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.differences import against_uniform
from tuning.evidence.keys import TrialKey

__all__ = ["Registered", "registered"]


@dataclass(frozen=True)
class Registered:
    """An alias and its trial."""

    alias: str
    """`best` or `candidate`."""
    key: TrialKey
    """The trial's."""
    verdict: str
    """beats_uniform, uniform (nothing did) or unconfirmed."""
    description: str
    """The study's answer in one sentence."""


def registered(ranking: Ranking) -> list[Registered]:
    """The aliases that a finished study sets.

    `best` means a schedule only if it beat uniform sampling beyond noise on fresh seeds; where confirmations ran
    and none did, it means uniform sampling; without confirmations there is no `best`. `candidate` always means
    the schedule that ranks first.
    """
    first, uniform = ranking.best, ranking.uniform
    if first is None:
        return []
    sentence = answer(ranking)
    found: list[Registered] = []
    differences = against_uniform(ranking)
    beating = [each for each in differences if each.beats and not each.rival]
    if beating:
        winner = max(beating, key=lambda each: each.mean)
        found.append(Registered("best", _key(ranking.arm(winner.key)), "beats_uniform", sentence))
    elif uniform is not None and uniform.confirmed and any(each.low is not None for each in differences):
        found.append(Registered("best", _key(uniform), "uniform", sentence))
    verdict = "beats_uniform" if beating and winner.key == first.arm_id else "unconfirmed"
    return [*found, Registered("candidate", _key(first), verdict, sentence)]


def _key(arm: Arm) -> TrialKey:
    return arm.records[0].key
