"""Ratios are compared where noise grows with the metric: a poor arm leaves the others' intervals as they are."""

import math

import numpy as np
import pytest

from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import against_arm, against_uniform, paired_differences
from tuning.evidence.metrics import DIRECTIONS
from tuning.evidence.scale import Scale, gain


def proportional(levels, seeds=6, deviation=0.1, seed=0):
    """A metric whose noise is in proportion to its level: arms by seed."""
    rng = np.random.default_rng(seed)
    luck = 0.2 * rng.standard_normal(seeds)
    table = np.array(levels)[:, None] * np.exp(luck + deviation * rng.standard_normal((len(levels), seeds)))
    return [dict(enumerate(row)) for row in table.tolist()]


def compared(rows, scale):
    names = [f"arm {number}" for number in range(1, len(rows))]
    found = paired_differences(dict(zip(names, rows[1:], strict=True)), rows[0], scale=scale)
    return {each.key: each for each in found}


def test_a_poor_arm_leaves_the_others_intervals_as_they_are():
    rows = proportional([7.0, 5.0, 7.0])
    poor = [*rows[:2], {seed: 6 * value for seed, value in rows[2].items()}]
    ratios, plain = (
        [compared(each, scale)["arm 1"] for each in (rows, poor)] for scale in (Scale.of("fid"), Scale())
    )
    assert (ratios[1].low, ratios[1].high) == pytest.approx((ratios[0].low, ratios[0].high))
    assert ratios[1].beats
    assert not plain[1].beats
    assert plain[1].high - plain[1].low > 3 * (plain[0].high - plain[0].low)


def test_no_gain_of_a_metric_above_0_is_more_than_all_of_it():
    found = compared(proportional([7.0, 0.5, 30.0], seeds=3, deviation=0.5), Scale.of("fid"))
    assert found["arm 1"].percent(found["arm 1"].high) < 100
    assert found["arm 2"].percent(found["arm 2"].low) < -500


@pytest.mark.parametrize("metric", DIRECTIONS)
@pytest.mark.parametrize("share", [-0.3, -0.02, 0.0, 0.02, 0.3])
def test_a_gain_is_the_share_of_the_control_by_which_a_metric_is_better(metric, share):
    scale, control = Scale.of(metric), 4.0
    better = control * (1 - share if scale.lower_is_better else 1 + share)
    (ours,), (theirs,) = scale.scores([better]), scale.scores([control])
    assert scale.difference(share, control) == pytest.approx(theirs - ours)
    assert scale.in_units(theirs - ours, control) == pytest.approx(share * control)
    assert gain([better], [control], metric) == pytest.approx(100 * share)


def test_of_several_seeds_the_gain_in_fid_is_that_of_geometric_means_and_in_kid_that_of_means():
    assert gain([4.0, 9.0], [8.0, 8.0], "fid") == pytest.approx(100 * (1 - 6 / 8))
    assert gain([4.0, 9.0], [8.0, 8.0], "kid") == pytest.approx(100 * (1 - 6.5 / 8))
    assert gain([-0.2], [-0.1], "kid") == pytest.approx(100)
    assert math.isnan(gain([0.1], [0.0], "precision"))


def test_equal_sets_have_a_distance_of_0_up_to_rounding():
    assert Scale.of("fid").scores([0.0, -1e-9]) == Scale.of("fid").scores([1e-12, 1e-12])
    assert Scale.of("fid").difference(1.0, 4.0) == math.inf


def test_the_answer_of_a_study_is_on_the_scale_of_its_metric():
    values = {None: [4.0, 5.0, 6.4], "uniform": [8.0, 10.0, 12.0], "rival": [16.0, 20.0, 26.0]}
    records = [
        record(
            0.0,
            metrics={"fid": value, "kid": value},
            role="confirmation",
            seed=1000 + seed,
            control=control,
            schedule=schedule(6),
            arm_id=str(control),
        )
        for control, row in values.items()
        for seed, value in enumerate(row)
    ]
    for metric, ratio in (("fid", (4 * 5 * 6.4 / (8 * 10 * 12)) ** (1 / 3)), ("kid", 15.4 / 30)):
        ranking = Ranking.of(records, metric)
        mine, *_ = against_uniform(ranking)
        assert mine.percent(mine.mean) == pytest.approx(100 * (1 - ratio)), metric
    beside = {each.key: each for each in against_arm(Ranking.of(records, "fid"), "rival")}
    assert beside["None"].percent(beside["None"].mean) == pytest.approx(100 * (1 - (128 / 8320) ** (1 / 3)))
