"""The speed-up: how many images a schedule needs to be as good as uniform sampling at its end."""

from math import nan

import pytest

from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Ranking
from tuning.evidence.speed import images_to_reach, speed_up


def confirmed(seed, history, control=None):
    return record(5.0, role="confirmation", seed=seed, control=control, schedule=schedule(6), history=history)


def test_a_metric_that_is_better_when_higher_reaches_its_target_from_below():
    assert images_to_reach([(100, 0.2), (200, 0.4)], 0.3, "recall") == 150
    assert images_to_reach([(100, 0.2), (200, 0.4)], 0.5, "recall") is None


def test_previews_are_compared_by_the_studys_metric_where_all_have_it():
    def both(points):
        return [[images, {"fid": fid, "kid": kid}] for images, fid, kid in points]

    slow, fast = both([(100, 9.0, 0.4), (200, 5.0, 0.2)]), both([(100, 9.0, 0.2), (200, 5.0, 0.1)])
    records = [confirmed(1000, slow, "uniform"), confirmed(1000, fast)]
    (by_fid,), (by_kid,) = (speed_up(Ranking.of(records, metric)) for metric in ("fid", "kid"))
    assert (by_fid.metric, by_fid.images, by_fid.ratio) == ("fid", pytest.approx(200), pytest.approx(1))
    assert (by_kid.metric, by_kid.images, by_kid.ratio) == ("kid", pytest.approx(100), pytest.approx(2))
    records[0] = confirmed(1000, [[100, 9.0], [200, 5.0]], "uniform")
    (found,) = speed_up(Ranking.of(records, "kid"))
    assert (found.metric, found.images) == ("fid", pytest.approx(200)), "without a name it is an FID"


def test_the_target_is_met_between_two_previews():
    history = [[100, 10.0], [200, 6.0], [300, 4.0]]
    assert images_to_reach(history, 6.0) == 200
    assert images_to_reach(history, 5.0) == 250
    assert images_to_reach(history, 12.0) == 100
    assert images_to_reach(history, 3.0) is None


def test_a_schedule_that_is_twice_as_fast_on_every_seed():
    records = []
    for seed in (1000, 1001, 1002):
        slow = [[images, 1e4 / images + 0.01 * seed] for images in (100, 200, 300, 400)]
        fast = [[images / 2, fid] for images, fid in slow]
        records += [confirmed(seed, slow, "uniform"), confirmed(seed, fast)]
    (found,) = speed_up(Ranking.of(records, "fid"))
    assert (found.ratio, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    assert (found.seeds, found.missed) == (3, 0)
    assert found.images == pytest.approx(200)
    assert "2.00 times [2.00, 2.00] as fast, 3 seeds" in found.in_words()


def test_seeds_on_which_it_never_gets_there_are_said_and_leave_no_interval():
    slow = [[100, 10.0], [200, 5.0]]
    records = [confirmed(seed, slow, "uniform") for seed in (1000, 1001, 1002)]
    records += [confirmed(seed, [[100, 4.0]]) for seed in (1000, 1001)] + [confirmed(1002, [[200, 9.0]])]
    (found,) = speed_up(Ranking.of(records, "fid"))
    assert (found.seeds, found.missed, found.low) == (2, 1, None)
    assert "as fast, 2 seeds, not on 1 more" in found.in_words()


def test_never_is_said_as_such():
    records = [confirmed(1000, [[100, 1.0]], "uniform"), confirmed(1000, [[100, 2.0]])]
    (found,) = speed_up(Ranking.of(records, "fid"))
    assert found.seeds == 0
    assert found.images is None
    assert found.in_words().startswith("never")


def test_without_previews_there_is_none():
    records = [confirmed(1000, [], "uniform"), confirmed(1000, [])]
    assert speed_up(Ranking.of(records, "fid")) == []


def test_seeds_on_which_it_failed_count_as_missed():
    slow, fast = [[100, 10.0], [200, 5.0]], [[100, 5.0]]
    records = [confirmed(seed, slow, "uniform") for seed in range(1000, 1004)]
    records += [confirmed(seed, fast) for seed in range(1000, 1003)]
    failed = record(None, role="confirmation", seed=1003, schedule=schedule(6))
    (found,) = speed_up(Ranking.of([*records, failed], "fid"))
    assert (found.seeds, found.missed, found.low) == (3, 1, None)


def test_previews_of_a_model_that_diverged_for_a_while_are_passed_over():
    uniform = confirmed(1000, [[100, 9.0], [200, 5.0]], "uniform")
    (found,) = speed_up(Ranking.of([uniform, confirmed(1000, [[50, 13.0], [100, nan], [150, 5.0]])], "fid"))
    assert (found.images, found.ratio) == (pytest.approx(150), pytest.approx(200 / 150))
    assert speed_up(Ranking.of([uniform, confirmed(1000, [[50, nan]])], "fid")) == []
