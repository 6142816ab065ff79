"""A plan stops adding fresh seeds where they would hardly settle the answer, says so, and goes on when told to."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.check_evidence import play
from tuning.evidence.arms import Ranking
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig
from tuning.study.giving_up import given_up
from tuning.study.plan import StudyPlan


def studies(**settings: object) -> tuple[StudyConfig, list[TrialRecord]]:
    """A small study in which nothing differs."""
    config = StudyConfig.model_validate({"trials": 1, **settings})
    return config, play(np.random.default_rng(3), config, 0.0, rivals={})


def seeds(records: list[TrialRecord]) -> int:
    return len({each.seed for each in records if each.role == "confirmation"})


def test_a_study_without_a_difference_ends_before_the_most_seeds_and_says_why() -> None:
    config, records = studies()
    assert 5 <= seeds(records) < 10
    said = given_up(config, Ranking.of(records, "fid", config.margin))
    assert said is not None
    assert said.startswith(f"{10 - seeds(records)} more fresh seed")
    assert said.endswith("none was added: the same command with --set futility=0 adds them")


def test_zero_runs_them_all_and_a_study_that_gave_up_goes_on_with_it() -> None:
    config, records = studies()
    patient = StudyConfig(trials=1, futility=0)
    plan = StudyPlan(patient, {each.key: each for each in records})
    added = []
    while (planned := plan.next()) is not None:
        added.append(planned)
        if len(added) == 2:
            break
    assert {each.role for each in added} == {"confirmation"}
    assert {each.seed for each in added} == {1000 + seeds(records)}
    assert given_up(patient, Ranking.of(records, "fid", config.margin)) is None
    assert seeds(studies(futility=0)[1]) == 10


def test_seeds_on_which_all_arms_failed_are_not_left() -> None:
    config, records = studies()
    last = [each for each in records if each.role == "confirmation" and each.seed == 1000]
    failed = [
        each.model_copy(update={"seed": seed, "status": "failed", "metrics": {}})
        for seed in range(1000 + seeds(records), 1010)
        for each in last
    ]
    assert given_up(config, Ranking.of(records, "fid", config.margin)) is not None
    assert given_up(config, Ranking.of([*records, *failed], "fid", config.margin)) is None


def test_the_same_study_again_has_nothing_to_run() -> None:
    config, records = studies()
    assert StudyPlan(config, {each.key: each for each in records}).complete


@pytest.mark.parametrize("confirm", [4, 8, (8, 10)])
def test_the_least_number_of_seeds_is_run_in_any_case(confirm: int | tuple[int, int]) -> None:
    _, records = studies(confirm_seeds=confirm)
    assert seeds(records) >= (confirm if isinstance(confirm, int) else confirm[0])
