"""Which of the searched schedules a study confirms on fresh seeds."""

from __future__ import annotations

from tuning.evidence.arms import Ranking
from tuning.evidence.front import front
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig

__all__ = ["asked_about", "best_curricula"]


def best_curricula(config: StudyConfig, ranking: Ranking) -> list[TrialRecord]:
    """The best curricula, to be run again: by the metric, then, with two objectives, the others of their front.

    Of records that train alike, the first counts.
    """
    arms: dict[str, TrialRecord] = {}
    for record in ranking.curricula:
        arms.setdefault(record.arm_id, record)
    best = list(arms.values())
    if config.two_objectives:
        places = {each.key: place for place, each in enumerate(front(ranking))}
        best[1:] = sorted(best[1:], key=lambda record: places.get(record.key, len(places)))
    return best[: config.confirm_top]


def asked_about(config: StudyConfig, ranking: Ranking) -> set[str]:
    """The ids of these curricula as arms: those of which a study goes on asking, as they alone get further seeds."""
    return {record.arm_id for record in best_curricula(config, ranking)}
