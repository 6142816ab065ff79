"""What a study's name stands for in MLflow's registry: the confirmed winner, or honestly uniform sampling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tuning.evidence.differences import against_uniform, answer
from tuning.evidence.records import Arm, Record, arms

__all__ = ["Registered", "registered"]


@dataclass(frozen=True)
class Registered:
    """One alias and the trial that it means."""

    alias: str
    """`best` or `candidate`."""
    key: str
    """The trial's key."""
    verdict: str
    """beats_uniform, uniform (nothing did) or unconfirmed."""
    description: str
    """The study's answer in one sentence."""


def registered(records: Iterable[Record], metric: str) -> list[Registered]:
    """Which aliases a finished study sets.

    `best` means a schedule only if it beat uniform sampling beyond noise on fresh seeds; where confirmations ran
    and none did, it means uniform sampling; without confirmations there is no `best`. `candidate` always means
    the schedule that ranks first.
    """
    table = arms(records, metric)
    first = next((arm for arm in table if arm.has_curriculum), None)
    if first is None:
        return []
    sentence = answer(table, metric)
    found: list[Registered] = []
    differences = against_uniform(table, metric)
    by_id = {arm.arm_id: arm for arm in table}
    beating = [each for each in differences if each.beats and not each.rival]
    uniform = next((arm for arm in table if arm.is_uniform and arm.confirmed), None)
    if beating:
        winner = max(beating, key=lambda each: each.mean)
        found.append(Registered("best", _key(by_id[winner.key]), "beats_uniform", sentence))
    elif uniform is not None and any(each.low is not None for each in differences):
        found.append(Registered("best", _key(uniform), "uniform", sentence))
    verdict = "beats_uniform" if beating and winner.key == first.arm_id else "unconfirmed"
    return [*found, Registered("candidate", _key(first), verdict, sentence)]


def _key(arm: Arm) -> str:
    return str(arm.records[0]["key"])
