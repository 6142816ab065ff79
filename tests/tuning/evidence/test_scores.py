"""A score is a mean over the seeds that both arms have, with the spread of those seeds."""

import pytest

from tests.tuning.studies import UNIFORM, fresh, record, trials
from tuning.evidence.arms import Ranking
from tuning.evidence.scores import scores


def scored(*records):
    ranking = Ranking.of(records, "fid")
    return scores(ranking.best, ranking.uniform, "fid")


def test_fresh_seeds_that_both_have_make_the_score():
    ours, uniform = scored(
        *trials(7.0), record(8.0, **UNIFORM), *fresh([9.0, 11.0], 7), *fresh([10.0, 14.0, 90.0], 1)
    )
    assert (ours.mean, uniform.mean) == (10.0, 12.0)
    assert (ours.spread, uniform.spread) == pytest.approx((2**0.5, 8**0.5))
    assert ours.in_words() == "10.00 ± 1.41 over 2 fresh seeds"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.019, 0.02108), "0.02 ± 0.00147 over 2 fresh seeds"),
        ((0.0028, 0.0032), "0.003 ± 0.000283 over 2 fresh seeds"),
        ((0.2, 0.203), "0.202 ± 0.002 over 2 fresh seeds"),
    ],
)
def test_the_spread_of_a_small_score_is_not_rounded_away(values, says):
    ours, _ = scored(*trials(7.0), record(8.0, **UNIFORM), *fresh(list(values), 7), *fresh([1.0, 1.0], 1))
    assert ours.in_words() == says


def test_one_run_of_the_search_has_no_spread_and_is_called_one():
    ours, uniform = scored(*trials(7.0), record(8.0, **UNIFORM))
    assert (ours.spread, ours.fresh) == (None, False)
    assert uniform.in_words() == "8.00 over 1 seed of the search"


def test_uniform_sampling_may_be_missing():
    assert scored(*trials(7.0))[1] is None
