"""The evidence: few false claims without an effect, and the effect found where there is one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuning.studies import record, schedule
from tuning.evidence.answer import verdict
from tuning.evidence.arms import Ranking
from tuning.evidence.boundary import critical_values
from tuning.evidence.compared import compared, difference
from tuning.evidence.differences import (
    against_uniform,
    paired_differences,
)
from tuning.evidence.scale import Scale
from tuning.evidence.table import columns
from tuning.report.confirmation import confirmation


def differences_of(table, scale=None, **options):
    """Compare the rows below the first with the first; columns are seeds."""
    rows = [dict(enumerate(row)) for row in table]
    others = {f"arm {number}": row for number, row in enumerate(rows[1:])}
    return paired_differences(others, rows[0], scale=scale or Scale(), **options)


def simulated(rng, schedules, seeds, effect=0.0, noise=None):
    """FID of uniform sampling (row 0) and of schedules; `effect`, of the first, in paired deviations."""
    noise = np.ones(schedules + 1) if noise is None else np.array(noise)
    table = 50 + 5 * rng.standard_normal(seeds) + noise[:, None] * rng.standard_normal((schedules + 1, seeds))
    table[1] -= effect * math.sqrt(2)
    return table


@pytest.mark.parametrize(("schedules", "seeds"), [(1, 3), (3, 3), (5, 3), (3, 5)])
def test_equal_arms_are_seldom_told_apart(schedules, seeds):
    rng = np.random.default_rng(schedules + 10 * seeds)
    studies = [differences_of(simulated(rng, schedules, seeds)) for _ in range(1000)]
    wins = sum(any(difference.beats for difference in study) for study in studies)
    claims = sum(any(difference.beats or difference.loses for difference in study) for study in studies)
    # At most 5% by construction; 4 standard errors of 1,000 studies on top.
    assert claims <= 50 + 4 * math.sqrt(1000 * 0.05 * 0.95)
    assert wins <= 25 + 4 * math.sqrt(1000 * 0.025 * 0.975)


def test_one_noisy_arm_does_not_make_the_others_winners():
    rng = np.random.default_rng(0)
    studies = [differences_of(simulated(rng, 3, 3, noise=[1, 1, 1, 3])) for _ in range(1000)]
    assert sum(any(difference.beats for difference in study) for study in studies) <= 50


def test_one_schedule_gets_a_paired_t_interval_with_the_critical_value_of_its_look():
    uniform, schedule = [10.0, 12.0, 11.0, 14.0], [9.0, 10.5, 10.5, 12.0]
    (found,) = differences_of([uniform, schedule])
    gains = np.subtract(uniform, schedule)
    half = critical_values(1, 0.05, 4)[-1] * gains.std(ddof=1) / 2
    assert found.mean == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((gains.mean() - half, gains.mean() + half), rel=1e-6)


def test_more_certainty_widens_the_interval():
    table = simulated(np.random.default_rng(3), 1, 4)
    wide, narrow = (differences_of(table, level=level)[0] for level in (0.99, 0.9))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@given(shift=st.lists(st.floats(-50, 50), min_size=3, max_size=3), seed=st.integers(0, 1000))
def test_the_seeds_own_luck_cancels(shift, seed):
    table = simulated(np.random.default_rng(seed), 2, 3)
    for one, other in zip(differences_of(table), differences_of(table + np.array(shift)), strict=True):
        assert one.key == other.key
        assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=1e-6)


def test_a_gain_is_positive_in_either_direction_of_the_metric():
    (lower,) = differences_of([[10.0, 10.0], [9.0, 9.1]])
    (higher,) = differences_of([[0.5, 0.5], [0.6, 0.61]], Scale(lower_is_better=False))
    assert lower.mean > 0
    assert higher.mean > 0


def test_two_seeds_make_no_claim():
    (found,) = differences_of([[10.0, 11.0], [1.0, 2.1]])
    assert (found.low, found.high, found.verdict) == (None, None, "undecided")
    assert "three or more fresh seeds" in verdict([found], "fid", 1000)


def test_only_seeds_that_both_have_are_compared():
    (found,) = paired_differences({"a": {0: 9.0, 1: 8.0, 7: 1.0}}, {0: 10.0, 1: 10.0, 2: 99.0}, scale=Scale())
    assert (found.seeds, found.mean, found.control) == (2, 1.5, 10.0)
    assert paired_differences({"a": {5: 1.0}}, {0: 10.0}, scale=Scale()) == []


def test_an_arm_with_fewer_seeds_leaves_the_others_theirs_and_takes_its_share_of_the_level():
    control = {seed: 10.0 + seed % 2 for seed in range(4)}
    a = {0: 9.0, 1: 9.5, 2: 8.0, 3: 9.5}
    both = paired_differences({"a": a, "b": {0: 7.0}}, control, scale=Scale())
    found = {each.key: each for each in both}
    (alone,) = paired_differences({"a": a}, control, scale=Scale(), level=0.975)
    assert found["a"].seeds == 4
    assert (found["a"].low, found["a"].high) == pytest.approx((alone.low, alone.high))
    assert found["b"].low is None


def test_identical_arms_are_equal():
    (found,) = differences_of([[10.0, 10.0, 11.0], [10.0, 10.0, 11.0]])
    assert (found.low, found.high, found.verdict) == (0, 0, "equal")


def test_a_confirmation_is_paired_by_seed_and_named():
    records = [
        record(value * (1 - gain), role="confirmation", seed=seed, control=control, schedule=schedule(6))
        for seed, value in ((1000, 10.0), (1001, 12.0), (1002, 14.0))
        for control, gain in ((None, 0.08 + 0.001 * (seed % 2)), ("uniform", 0.0))
    ]
    (found,) = against_uniform(Ranking.of([*records, record(3.0)], "fid"))
    assert found.name == "6 uniform clusters, easy_to_hard, plateau patience 20, cumulative"
    assert found.beats
    assert found.percent(found.mean) == pytest.approx(8, rel=0.01)
    assert found.to_json()["beats_uniform"] is True


def test_beside_a_metric_of_zero_a_gain_has_no_percent_and_is_said_in_units_of_the_metric():
    records = [
        record(
            metrics={"recall": recall}, role="confirmation", seed=seed, control=control, schedule=schedule(6)
        )
        for seed, gained in ((1000, 0.3), (1001, 0.32), (1002, 0.31))
        for control, recall in ((None, gained), ("uniform", 0.0))
    ]
    ranking = Ranking.of(records, "recall")
    (found,) = against_uniform(ranking)
    assert found.beats
    assert found.in_words("recall").startswith("0.310 recall [0.2")
    assert difference(compared(found)) == "–"
    (gains,) = (column for column in columns(ranking) if column.title == ("gain",))
    assert {gains.text(arm) for arm in ranking.arms} == {"–"}
    assert "nan" not in confirmation(ranking, [found])
