"""A study that goes on: extended by trials, it asks about its new best; a seed that was begun is run whole."""

from __future__ import annotations

import numpy as np

from benchmarks.check_evidence import record
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig
from tuning.study.giving_up import given_up
from tuning.study.plan import StudyPlan
from tuning.study.trial_spec import TrialSpec

OLD, NEW = TrialKey.search(0), TrialKey.search(1)
ARMS = {"a": {"weighting.kind": "min_snr"}, "b": {"weighting.kind": "p2"}}
NAMED = StudyConfig.model_validate({"arms": ARMS, "confirm_seeds": (3, 10)})


def _play(config: StudyConfig, records: dict[TrialKey, TrialRecord], seed: int) -> StudyPlan:
    """The old best is as good as uniform sampling on fresh seeds, the new one 25% better."""
    rng = np.random.default_rng(seed)
    plan = StudyPlan(config, records)
    while (planned := plan.next()) is not None:
        fid = 10.0 * np.exp(0.06 * rng.standard_normal())
        if planned.origin == NEW and planned.role == "confirmation":
            fid *= 0.75
        elif planned.role != "confirmation":
            fid = {OLD: 5.0, NEW: 4.0}.get(planned.key, 9.0)
        plan.ended(record(planned, float(fid)))
    return plan


def _seeds(plan: StudyPlan, key: TrialKey) -> int:
    return sum(each.origin == key for each in plan.records.values() if each.role == "confirmation")


def test_an_extended_study_adds_no_seeds_to_settle_what_it_no_longer_asks() -> None:
    taken = []
    for seed in range(8):
        first = _play(StudyConfig(trials=1), {}, seed)
        config = StudyConfig(trials=2)
        extended = _play(config, dict(first.records), seed)
        assert _seeds(extended, OLD) == _seeds(first, OLD) >= 5
        assert given_up(config, extended.ranking) is None
        taken.append(_seeds(extended, NEW))
    assert max(taken) <= 5
    assert np.mean(taken) < 4.5


def test_an_extended_study_whose_new_best_fails_on_every_fresh_seed_ends() -> None:
    first = _play(StudyConfig(trials=1), {}, 0)
    plan = StudyPlan(StudyConfig(trials=2), dict(first.records))
    while (planned := plan.next()) is not None:
        ended = record(planned, 4.0)
        if planned.origin == NEW and planned.role == "confirmation":
            ended = ended.model_copy(update={"status": "failed", "metrics": {}})
        plan.ended(ended)
    assert plan.complete
    assert _seeds(plan, NEW) == 3
    assert _seeds(plan, OLD) == _seeds(first, OLD)


def _fid(trial: TrialSpec, rng: np.random.Generator) -> float:
    arm = "uniform" if trial.control == "uniform" else trial.key.named
    return float({"uniform": 10.0, "a": 7.5, "b": 16.0}[arm] * np.exp(0.06 * rng.standard_normal()))


def test_a_seed_that_was_begun_before_a_kill_is_run_whole() -> None:
    further = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        plan, last = StudyPlan(NAMED), dict[TrialKey, TrialRecord]()
        while not plan.complete:
            for trial in sorted(
                iter(plan.next, None), key=lambda each: (each.seed, each.control != "uniform")
            ):
                last = dict(plan.records)
                plan.ended(record(trial, _fid(trial, rng)))
        again = StudyPlan(NAMED, dict(last))
        (left,) = iter(again.next, None)
        assert {*last, left.key} == {*plan.records}
        further += len(plan.records) > 9
    assert further > 5
