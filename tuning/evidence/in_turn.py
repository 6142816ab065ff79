"""The answers of a study of named arms: each against uniform sampling, and the first against the others in turn.

Every arm is compared with uniform sampling, at an equal share of the level (Bonferroni). The first, which is the arm in
question, is then compared with the second, the third and so on: each comparison counts only if all before it were won,
which keeps the level without sharing it out again (fixed sequence, Maurer et al. 1995). So the 95% are for all that is
said to be better or worse among a study's arms. A false "equal" does not end in a claim of the next comparison, but may
come at each of m - 1 of them: where all of these differences are just above the margin, the bound on the chance of
anything false is (1.5 - 1 / m) times 5%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.compared import Turn, compared
from tuning.evidence.differences import Difference, against_arm, against_uniform
from tuning.evidence.keys import TrialKey

__all__ = ["Answers", "answers_of"]


@dataclass(frozen=True)
class Answers:
    """The differences of named arms, as far as they have three fresh seeds in common."""

    names: tuple[str, ...]
    """The names of all arms, that in question first."""
    against_uniform: dict[str, Difference]
    """Each arm's difference from uniform sampling, by name."""
    in_turn: dict[str, Difference]
    """The first arm's difference from each other arm, by the other's name and in the order of the names."""

    @property
    def asked(self) -> list[str]:
        """The arms against which the first is to be judged: those up to the first that it does not beat."""
        first = self.against_uniform.get(self.names[0])
        if first is None or not first.beats:
            return []
        asked = []
        for name in self.names[1:]:
            asked.append(name)
            found = self.in_turn.get(name)
            if found is None or not found.beats:
                break
        return asked

    @property
    def turns(self) -> list[Turn]:
        """The first arm against each other one, in the order of the names."""
        first, *others = self.names
        return [
            Turn(
                name=first, against=name, compared=compared(self.in_turn.get(name)), asked=name in self.asked
            )
            for name in others
        ]

    @property
    def undecided(self) -> list[str]:
        """The comparisons that are asked for and whose answers do not stand: "a against uniform sampling"."""
        found = {f"{name} against uniform sampling": self.against_uniform.get(name) for name in self.names}
        found |= {f"{self.names[0]} against {name}": self.in_turn.get(name) for name in self.asked}
        return [words for words, each in found.items() if each is None or each.verdict == "undecided"]

    @property
    def settled(self) -> bool:
        """Whether every answer stands."""
        return not self.undecided


def answers_of(ranking: Ranking, names: Sequence[str]) -> Answers:
    """The answers of a study of these arms, whose trials repeat the keys `TrialKey.arm(name)`."""
    arms = {name: _arm(ranking, name) for name in names}
    known = {arm.arm_id: name for name, arm in arms.items() if arm is not None}
    uniform = {
        known[each.key]: replace(each, name=known[each.key])
        for each in against_uniform(ranking)
        if each.key in known and each.low is not None
    }
    question, *others = names
    first, turns = arms[question], {}
    for name in others:
        other = arms[name]
        if first is None or other is None:
            continue
        mine = next((each for each in against_arm(ranking, other.arm_id) if each.key == first.arm_id), None)
        if mine is not None:
            turns[name] = replace(mine, name=question, against=name)
    return Answers(tuple(names), uniform, turns)


def _arm(ranking: Ranking, name: str) -> Arm | None:
    key = TrialKey.arm(name)
    return next((arm for arm in ranking.confirmed if arm.confirmed[0].origin == key), None)
