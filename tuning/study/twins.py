"""Twins of the best schedule: its clusters and pacing with another order, and its other settings without a curriculum.

A random order often does as well as a clever one (Wu et al. 2021, "When Do Curricula Work?"); then the gain comes
from the growing set and not from the order.
"""

from __future__ import annotations

from collections.abc import Collection

from curriculum_ray.curriculum import CurriculumSchedule, RandomOrder, SortedOrder
from curriculum_ray.curriculum.order import LEAST_RANDOM
from tuning.evidence.records import Control, TrialRecord
from tuning.study.trial_spec import TrialSpec

__all__ = ["twin_trials", "twins"]


def twins(schedule: CurriculumSchedule, seed: int) -> dict[Control, CurriculumSchedule]:
    """The schedule with its order reversed and with a random order from `seed`, by the name of the control.

    A schedule in random order has no reverse: its twins are the two directions. Explicit orders have
    no twins. Two clusters have no random order, as both of their orders are sorted.
    """
    match schedule.order:
        case SortedOrder():
            found: dict[Control, CurriculumSchedule] = {"reversed": schedule.reversed_order()}
            return (
                found
                if schedule.clusters.count < LEAST_RANDOM
                else {**found, "random": schedule.random_order(seed)}
            )
        case RandomOrder():
            ordered = SortedOrder(direction="easy_to_hard")
            forwards = schedule.model_copy(update={"order": ordered})
            return {"easy_to_hard": forwards, "hard_to_easy": forwards.reversed_order()}
        case _:
            return {}


def twin_trials(
    best: TrialRecord, known: Collection[str], seed: int, uniform: CurriculumSchedule
) -> list[TrialSpec]:
    """The trials of the twins of the record `best`, except those whose arm is `known` to have been tried.

    uniform: the study's control without a curriculum, which is no twin.
    """
    schedule, settings = best.drawn_by, best.settings
    planned = [
        TrialSpec(
            key=best.key.twin(name),
            role="control",
            control=name,
            seed=seed,
            schedule=twin,
            settings=settings,
            origin=best.key,
        )
        for name, twin in twins(schedule, seed).items()
    ]
    plain = schedule.without_curriculum()
    if settings or plain != uniform:
        # The effect of the schedule's other settings must not be credited to its order.
        planned.append(
            TrialSpec(
                key=best.key.twin("plain"),
                role="control",
                control="rival",
                rival="the best schedule's own settings",
                seed=seed,
                schedule=plain,
                settings=settings,
                origin=best.key,
            )
        )
    return [twin for twin in planned if twin.schedule and twin.arm_id(twin.schedule) not in known]
