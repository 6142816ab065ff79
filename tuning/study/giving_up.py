"""When a study adds no more fresh seeds, though it may: they would hardly settle what is open."""

from __future__ import annotations

from curriculum_ray.words import number_of
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import settled
from tuning.evidence.futility import power_left
from tuning.study.best_curricula import asked_about
from tuning.study.config import FRESH_SEEDS, StudyConfig

__all__ = ["given_up"]


def given_up(config: StudyConfig, ranking: Ranking) -> str | None:
    """Why a study runs none of the fresh seeds that are left, in one sentence; None where it runs them, or has none."""
    least, most = config.least_and_most_seeds
    asked = asked_about(config, ranking)
    fresh = {
        record.seed for record in ranking.records if record.role == "confirmation" and record.arm_id in asked
    }
    left = most - len({seed for seed in fresh if seed >= FRESH_SEEDS})
    if config.arms or not config.futility or left <= 0 or len(fresh) < least or settled(ranking, asked):
        return None
    chance = power_left(ranking, left, asked)
    if chance >= config.futility:
        return None
    seeds = number_of(left, "seed", "more fresh " if left < most else "fresh ")
    percent = "under 1%" if chance < 0.01 else f"{100 * chance:.0f}%"
    return (
        f"{seeds} would settle the answer with a chance of {percent}, so none was added: "
        "the same command with --set futility=0 adds them"
    )
