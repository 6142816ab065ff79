"""A study always has its controls, repeats the best on fresh seeds, and runs nothing twice."""

from __future__ import annotations

import math

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import CurriculumSchedule, RandomOrder
from curriculum_ray.curriculum.order import random_ranking
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import result, started
from tuning.evidence.records import TrialRecord
from tuning.study.config import FRESH_SEEDS, StudyConfig
from tuning.study.controls import Controls
from tuning.study.plan import StudyPlan
from tuning.study.trial_spec import TrialSpec
from tuning.study.twins import twins

PACED = {
    "version": 1,
    "clusters": {"by": "uniform", "count": 4},
    "pacing": {"rule": "plateau", "patience": 3},
}


def _schedule(direction: str = "easy_to_hard", count: int = 4) -> CurriculumSchedule:
    order = {"direction": direction, **({"seed": 9} if direction == "random" else {})}
    clusters = {"by": "uniform", "count": count}
    return CurriculumSchedule.from_dict({**PACED, "order": order, "clusters": clusters}, "test")


def _record(
    planned: TrialSpec, schedule: CurriculumSchedule, fid: float, status: str = "finished"
) -> TrialRecord:
    record = started(planned, RunConfig(schedule=schedule, seed=planned.seed))
    return record.finished(result(fid)) if status == "finished" else record.failed("out of memory")


def _play(config: StudyConfig, fids: list[float], plan: StudyPlan | None = None) -> list[TrialSpec]:
    """Run a plan with one trial at a time; searched trial i has 2 + i clusters and the i-th FID."""
    plan = plan or StudyPlan(config)
    done = []
    while (planned := plan.next()) is not None:
        index = int(planned.key[-3:]) if planned.role == "searched" else 0
        schedule = planned.schedule or _schedule(count=2 + index)
        fid = fids[index] if planned.role == "searched" else 5.0
        plan.ended(_record(planned, schedule, fid))
        done.append(planned)
    assert plan.complete
    return done


def test_uniform_comes_first_and_the_best_meets_its_twins_and_fresh_seeds() -> None:
    config = StudyConfig(trials=3, confirm_seeds=2)
    done = _play(config, [4.0, 2.0, 3.0])
    assert done[0].control == "uniform"
    assert [trial.key for trial in done[1:4]] == ["search-000", "search-001", "search-002"]
    assert {(trial.control, trial.origin) for trial in done[4:6]} == {
        ("reversed", "search-001"),
        ("random", "search-001"),
    }
    confirmations = done[6:]
    assert {(trial.seed, trial.origin) for trial in confirmations} == {
        (seed, key) for seed in (FRESH_SEEDS, FRESH_SEEDS + 1) for key in ("search-001", "control-uniform")
    }
    assert len(done) == StudyPlan(config).total == config.maximum_trials(Controls())


def test_search_and_confirmation_share_no_seed() -> None:
    done = _play(StudyConfig(trials=2, seed=999, confirm_seeds=3), [1.0, 2.0])
    searched = {trial.seed for trial in done if trial.role != "confirmation"}
    confirmed = {trial.seed for trial in done if trial.role == "confirmation"}
    assert not searched & confirmed


def test_twins_keep_clusters_and_pacing_and_change_the_order_alone() -> None:
    schedule = _schedule()
    for twin in twins(schedule, seed=1).values():
        assert (twin.clusters, twin.pacing, twin.active) == (
            schedule.clusters,
            schedule.pacing,
            schedule.active,
        )
        assert twin.order != schedule.order
    assert set(twins(schedule, 1)) == {"reversed", "random"}
    assert set(twins(_schedule("random"), 1)) == {"easy_to_hard", "hard_to_easy"}
    assert twins(CurriculumSchedule.uniform(), 1) == {}


@pytest.mark.parametrize("seed", range(12))
def test_a_random_twin_is_really_another_order(seed: int) -> None:
    order = twins(_schedule(count=3), seed)["random"].order
    assert isinstance(order, RandomOrder)
    assert random_ranking(3, order.seed) not in ((0, 1, 2), (2, 1, 0))


def _with_a_best_schedule() -> tuple[StudyPlan, TrialSpec]:
    """A search of two trials, of which the first has ended, easy to hard, and the second, returned too, runs."""
    plan = StudyPlan(StudyConfig(trials=2, confirm_top=0))
    uniform, first, second = plan.next(), plan.next(), plan.next()
    assert uniform is not None
    assert first is not None
    assert second is not None
    plan.ended(_record(uniform, CurriculumSchedule.uniform(), 5.0))
    plan.ended(_record(first, _schedule("easy_to_hard"), 1.0))
    return plan, second


def test_a_twin_that_the_search_has_tried_is_not_run_again() -> None:
    plan, second = _with_a_best_schedule()
    plan.ended(_record(second, _schedule("hard_to_easy"), 2.0))
    twin = plan.next()
    assert twin is not None
    assert twin.control == "random"
    plan.ended(_record(twin, _schedule("random"), 3.0))
    assert plan.complete


@pytest.mark.parametrize("status", ["failed", "pruned", "not a number"])
def test_a_twin_whose_searched_trial_has_no_score_is_run(status: str) -> None:
    plan, second = _with_a_best_schedule()
    begun = started(second, RunConfig(schedule=_schedule("hard_to_easy")))
    plan.ended(
        {
            "failed": begun.failed("out of memory"),
            "pruned": begun.pruned("worse than the others", 100, [(100, 9.0)]),
            "not a number": begun.finished(result(math.nan)),
        }[status]
    )
    assert {twin.control for twin in (plan.next(), plan.next()) if twin} == {"reversed", "random"}


def test_a_phase_waits_for_the_one_before() -> None:
    plan = StudyPlan(StudyConfig(trials=1))
    running = [plan.next(), plan.next()]
    assert all(running)
    assert plan.next() is None
    assert not plan.complete


def test_a_study_goes_on_where_it_was_and_runs_nothing_twice() -> None:
    config = StudyConfig(trials=3, confirm_seeds=2)
    whole = _play(config, [4.0, 2.0, 3.0])
    plan = StudyPlan(config)
    for _ in range(4):
        planned = plan.next()
        assert planned is not None
        index = int(planned.key[-3:]) if planned.role == "searched" else 0
        schedule = planned.schedule or _schedule(count=2 + index)
        plan.ended(_record(planned, schedule, [4.0, 2.0, 3.0][index] if planned.role == "searched" else 5.0))
    interrupted = plan.next()
    assert interrupted is not None
    rest = _play(config, [4.0, 2.0, 3.0], StudyPlan(config, dict(plan.records)))
    assert [trial.key for trial in rest] == [trial.key for trial in whole[4:]]


def test_failed_trials_do_not_stop_a_study_nor_win_it() -> None:
    plan = StudyPlan(StudyConfig(trials=2, confirm_seeds=2))
    uniform, first, second = plan.next(), plan.next(), plan.next()
    assert uniform is not None
    assert first is not None
    assert second is not None
    plan.ended(_record(uniform, CurriculumSchedule.uniform(), 5.0))
    plan.ended(_record(first, _schedule(), 0.0, status="failed"))
    plan.ended(_record(second, _schedule(count=3), 7.0))
    assert [record.key for record in plan.ranking.curricula] == ["search-001"]


def test_a_study_whose_searched_trials_all_failed_ends() -> None:
    plan = StudyPlan(StudyConfig(trials=1))
    for _ in range(2):
        planned = plan.next()
        assert planned is not None
        plan.ended(
            _record(
                planned, planned.schedule or _schedule(), 5.0, "finished" if planned.control else "failed"
            )
        )
    assert plan.next() is None
    assert plan.complete


@pytest.mark.parametrize(("metric", "best"), [("fid", "search-000"), ("recall", "search-001")])
def test_better_is_lower_or_higher_as_the_metric_has_it(metric: str, best: str) -> None:
    plan = StudyPlan(StudyConfig.model_validate({"trials": 2, "metric": metric}))
    for planned, value in ((plan.next(), 9.0), (plan.next(), 0.1), (plan.next(), 0.2)):
        assert planned is not None
        record = started(planned, RunConfig(schedule=planned.schedule or _schedule()))
        plan.ended(record.finished(result(metrics={metric: value})))
    assert plan.ranking.curricula[0].key == best


def _confirm(config: StudyConfig, fids: dict[str, list[float]], plan: StudyPlan | None = None) -> StudyPlan:
    """Run a plan whose schedules and uniform sampling have these FIDs by fresh seed, over and over."""
    plan = plan or StudyPlan(config)
    while (planned := plan.next()) is not None:
        values = fids["uniform" if planned.control == "uniform" else "schedule"]
        fid = values[planned.seed % len(values)]
        plan.ended(_record(planned, planned.schedule or _schedule(), fid))
    assert plan.complete
    return plan


def _seeds(plan: StudyPlan) -> int:
    return len({record.seed for record in plan.records.values() if record.role == "confirmation"})


CLEAR = {"uniform": [10.0, 11.0, 10.5, 10.2], "schedule": [8.0, 9.0, 8.51, 8.2]}
NOISY = {"uniform": [10.0, 11.0, 10.5, 10.2], "schedule": [12.0, 9.0, 9.5, 10.7]}


@pytest.mark.parametrize(
    ("seeds", "fids", "run"),
    [((3, 6), CLEAR, 3), ((5, 6), CLEAR, 5), ((3, 6), NOISY, 6), (4, CLEAR, 4)],
)
def test_seeds_are_added_until_the_answer_stands(
    seeds: int | tuple[int, int], fids: dict[str, list[float]], run: int
) -> None:
    plan = _confirm(StudyConfig(trials=1, confirm_seeds=seeds, futility=0), fids)
    assert _seeds(plan) == run
    assert plan.total == len(plan.records)


def test_all_arms_of_a_seed_end_before_the_next_begins() -> None:
    plan = StudyPlan(StudyConfig(trials=1, confirm_seeds=(3, 4)))
    begun: list[int] = []
    waiting: list[TrialSpec] = []
    while not plan.complete:
        while (planned := plan.next()) is not None:
            waiting.append(planned)
            begun += [planned.seed] if planned.role == "confirmation" else []
        planned = waiting.pop()
        assert planned.seed < FRESH_SEEDS + 3 or not any(each.seed < planned.seed for each in waiting)
        fid = NOISY["uniform" if planned.control == "uniform" else "schedule"][planned.seed % 4]
        plan.ended(_record(planned, planned.schedule or _schedule(), fid))
    assert sorted(begun) == [FRESH_SEEDS + seed for seed in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_an_undecided_study_goes_on_with_more_seeds() -> None:
    plan = _confirm(StudyConfig(trials=1, confirm_seeds=(3, 4)), NOISY)
    more = StudyPlan(StudyConfig(trials=1, confirm_seeds=(3, 6), futility=0), dict(plan.records))
    assert not more.complete
    assert _seeds(_confirm(more.config, NOISY, more)) == 6


@pytest.mark.parametrize("seeds", [1, [3, 2], [1, 4], [3, 1001]])
def test_a_range_of_seeds_is_checked(seeds: int | list[int]) -> None:
    with pytest.raises(ConfigError, match="confirm_seeds must be between 2 and 1000"):
        parse(StudyConfig, {"confirm_seeds": seeds}, "test")
