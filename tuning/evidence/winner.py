"""What a study stands for: its best curriculum only where that beat uniform sampling on fresh seeds.

Of a study in which no arm has a curriculum, e.g. one of weightings, the best arm takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuning.evidence.answer import answer
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.differences import Word, against_uniform, surest
from tuning.evidence.keys import TrialKey

__all__ = ["Choice", "Registered", "Verdict", "best_arm", "choose", "registered"]

Verdict = Word | Literal["unconfirmed"]
"""The best curriculum against uniform sampling; unconfirmed where it was not compared on three or more fresh seeds."""


@dataclass(frozen=True)
class Choice:
    """The arm that a study stands for."""

    arm: Arm
    curriculum: Arm
    """The best-looking curriculum or, where no arm has one, arm; whether or not it is `arm`."""
    verdict: Verdict


@dataclass(frozen=True)
class Registered:
    """An alias and its trial."""

    alias: str
    """`best` or `candidate`."""
    key: TrialKey
    """The trial's."""
    verdict: Verdict
    description: str
    """The study's answer in one sentence."""


def choose(ranking: Ranking) -> Choice | None:
    """Choose the best contender if it beat uniform sampling beyond noise on fresh seeds, else uniform sampling.

    Where none was compared on fresh seeds the one that ranks first is chosen, unconfirmed. None where none has
    finished.
    """
    first, uniform = ranking.best, ranking.uniform
    if first is None:
        return None
    keys = {arm.arm_id for arm in ranking.contenders}
    compared = [each for each in against_uniform(ranking) if each.low is not None and each.key in keys]
    if uniform is None or not compared:
        return Choice(first, first, "unconfirmed")
    top = surest(compared)
    curriculum = ranking.arm(top.key)
    return Choice(curriculum if top.beats else uniform, curriculum, top.verdict)


def best_arm(ranking: Ranking) -> Arm | None:
    """The contender that answers, reports and commands speak of as the best; None where none has finished."""
    choice = choose(ranking)
    return None if choice is None else choice.curriculum


def registered(ranking: Ranking) -> list[Registered]:
    """The aliases that a finished study sets.

    `best` means the arm that `choose` chooses, and is not set where that is unconfirmed. `candidate` always means
    the best-looking contender.
    """
    choice = choose(ranking)
    if choice is None:
        return []
    sentence = answer(ranking)
    best = Registered("best", _key(choice.arm), choice.verdict, sentence)
    candidate = Registered("candidate", _key(choice.curriculum), choice.verdict, sentence)
    return [candidate] if choice.verdict == "unconfirmed" else [best, candidate]


def _key(arm: Arm) -> TrialKey:
    return arm.records[0].key
