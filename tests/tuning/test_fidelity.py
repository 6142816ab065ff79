"""Smaller budgets do not kill a slow curriculum that wins at the full one; cutting runs short does."""

from __future__ import annotations

import pytest

from tests.tuning.test_plan import _record, _schedule
from tuning.config import StudyConfig
from tuning.fidelity import Compressed, FullBudget, promoted
from tuning.plan import StudyPlan
from tuning.planned import Planned

BUDGET = 44_800
SLOW = 5


def score(index: int, images: int, total: int) -> float:
    """The FID of schedule `index` after `images` of a budget of `total`, lower is better.

    Schedule `SLOW` reaches low noise at 80% of the budget, whatever that is: catastrophic before, the best after.
    """
    learnt = 5 * (BUDGET / images) ** 0.5
    if index == SLOW:
        return 0.8 * learnt if images >= 0.8 * total else 700.0
    return learnt * (1 + 0.02 * index)


def naive(trials: int, reduction: int, rungs: int) -> int:
    """Stop all but the best 1/reduction at each rung of runs at the full budget, as ASHA does; returns the winner."""
    alive = list(range(trials))
    for left in range(rungs, 0, -1):
        images = BUDGET // reduction**left
        alive = sorted(alive, key=lambda index: score(index, images, BUDGET))[
            : max(1, len(alive) // reduction)
        ]
    return min(alive, key=lambda index: score(index, BUDGET, BUDGET))


def play(config: StudyConfig) -> tuple[StudyPlan, list[Planned]]:
    """Run a plan one trial at a time; searched trial i has 2 + i clusters."""
    plan, done = StudyPlan(config), []
    while (planned := plan.next()) is not None:
        total = planned.images or config.run.total_images
        index = int((planned.optuna or planned.origin or "0")[-3:]) if planned.control is None else 0
        fid = score(index, total, total) if planned.control is None else 6.0
        plan.ended(_record(planned, planned.schedule or _schedule(count=2 + index), fid))
        done.append(planned)
    assert plan.complete
    return plan, done


CONFIG = StudyConfig.model_validate(
    {"trials": 8, "confirm_seeds": 2, "fidelity": {"rule": "compressed", "reduction": 2, "rungs": 3}}
)


def test_stopping_runs_early_kills_the_slow_curriculum_that_wins_at_the_full_budget() -> None:
    best = min(range(8), key=lambda index: score(index, BUDGET, BUDGET))
    assert best == SLOW
    assert naive(8, reduction=2, rungs=3) != SLOW


def test_compressed_budgets_keep_it() -> None:
    plan, done = play(CONFIG)
    assert plan.ranking()[0]["key"] == f"search-{SLOW:03d}"
    rungs = [trial.images for trial in done if trial.role == "rung"]
    assert rungs == [5600] * 8 + [11_200] * 4 + [22_400] * 2


def test_a_higher_rung_repeats_the_schedule_of_the_one_below() -> None:
    plan, done = play(CONFIG)
    top = next(trial for trial in done if trial.role == "searched")
    assert top.schedule is not None
    assert top.images is None
    below = plan.records[f"rung0-{SLOW:03d}"]
    assert top.schedule.model_dump(mode="json") == below["schedule"]


def test_a_small_budget_is_never_ranked_and_the_others_are_known_as_eliminated() -> None:
    plan, _ = play(CONFIG)
    assert {record["role"] for record in plan.ranking()} <= {"searched", "control"}
    assert plan.eliminated == {f"search-{index:03d}" for index in range(8) if index != SLOW}


@pytest.mark.parametrize("trials", [1, 3, 8, 11])
def test_the_number_of_trials_is_known_beforehand(trials: int) -> None:
    rule = Compressed(rule="compressed", reduction=2, rungs=2)
    config = CONFIG.model_copy(update={"trials": trials, "fidelity": rule})
    _, done = play(config)
    assert sum(trial.role == "rung" for trial in done) == rule.low_trials(trials)
    assert sum(trial.role == "searched" for trial in done) == rule.full_trials(trials)


def test_budgets_end_at_the_full_one() -> None:
    assert Compressed(rule="compressed", reduction=3, rungs=2).budgets(9000) == [1000, 3000, 9000]
    assert FullBudget().budgets(9000) == [9000]


def test_the_best_are_promoted_in_either_direction() -> None:
    scores = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert promoted(scores, 2) == ["b", "c"]
    assert promoted(scores, 1, lower_is_better=False) == ["a"]
