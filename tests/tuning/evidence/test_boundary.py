"""The level holds at every look, however many seeds are added, and an effect is found with few of them."""

import re
from itertools import pairwise

import numpy as np
import pytest

from tests.tuning.studies import named_runs, record, schedule
from tuning.evidence.arms import Ranking
from tuning.evidence.boundary import FIRST_SEEDS, critical_values, left
from tuning.evidence.differences import against_uniform, settled
from tuning.evidence.expected import expected_seeds
from tuning.evidence.in_turn import answers_of
from tuning.evidence.intervals import half_widths
from tuning.evidence.looks import stops
from tuning.evidence.scale import Scale
from tuning.study.config import FRESH_SEEDS

STUDIES, MOST = 20_000, 20


def tables(arms, seed=0, studies=STUDIES):
    """FID of uniform sampling and the other arms, the paired deviation 1: (studies, arms, MOST)."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((studies, arms, MOST)) / np.sqrt(2)
    return 50 + 5 * rng.standard_normal((studies, 1, MOST)) + own


def claimed(table):
    """Studies that claim any difference from uniform sampling at any look."""
    n = np.arange(FIRST_SEEDS, MOST + 1)
    gains = (table[:, :1] - table[:, 1:]).cumsum(-1)[..., FIRST_SEEDS - 1 :] / n
    half = half_widths(table, 0.05 / (table.shape[1] - 1))
    return (abs(gains) > half[:, 1:]).any((1, 2)).mean()


def test_looking_after_every_seed_claims_no_more_often_than_allowed():
    # Two arms spend the level exactly; with more, the shared control makes the sharing out conservative.
    assert claimed(tables(2)) == pytest.approx(0.05 * (1 - left(MOST)), abs=0.005)
    assert 0.03 < claimed(tables(3)) < 0.05


def test_one_noisy_arm_among_many_seldom_makes_a_claim():
    table = tables(10, studies=4000)
    table[:, 9] += 2 * (table[:, 9] - table[:, 9].mean(-1, keepdims=True))
    # With the pooled noise alone it would be 18%.
    assert claimed(table) < 0.09


def test_with_three_arms_the_greater_of_the_pooled_and_the_pair_s_own_noise_counts():
    table = tables(4, studies=1)[0, :, :6]
    table[3] += 5 * (table[3] - table[3].mean())
    residuals = table - table.mean(-1, keepdims=True) - table.mean(0) + table.mean()
    pooled = 2 * (residuals**2).sum() / (3 * 5)
    for control in (0, 3):
        own = np.var(table - table[control], axis=-1, ddof=1)
        assert (own > pooled).sum() == (1 if control == 0 else 3)
        half = critical_values(3, 0.05, 6)[-1] * np.sqrt(np.maximum(own, pooled) / 6)
        assert half_widths(table, 0.05, control)[:, -1] == pytest.approx(half)


def test_with_two_arms_the_pooled_noise_counts():
    table = tables(3, studies=1)[0]
    table[2] *= 5
    half = half_widths(table, 0.05)
    assert (half == half[0]).all()


def test_the_level_is_never_used_up_and_neither_looks_nor_the_most_seeds_enter():
    shares = [left(seeds) for seeds in range(2, 1001)]
    assert shares[0] == 1
    assert all(after < before for before, after in pairwise(shares))
    assert shares[-1] > 0
    few = critical_values(2, 0.025, 5)
    assert critical_values(2, 0.025, 12)[:3] == few


def test_there_is_nothing_to_claim_with_two_seeds():
    assert critical_values(1, 0.05, 2) == []
    assert half_widths(np.ones((2, 2)), 0.05).shape == (2, 0)


@pytest.mark.parametrize("arms", [1, 40])
def test_critical_values_are_finite_for_many_arms_and_seeds(arms):
    values = critical_values(arms, 0.05 / arms, 80)
    assert len(values) == 78
    assert all(3 < value < 7 for value in values)


def test_an_effect_of_two_paired_deviations_takes_five_seeds():
    found = expected_seeds(0.2, 0.1, scale=Scale(), schedules=1, rival=True, seeds=(3, 10), margin=0.02)
    assert found.beats > 0.95
    assert found.seeds < 5.1
    assert found.undecided < 0.05
    assert found.in_words().startswith(("better by 20%: about 4.", "better by 20%: about 5."))


def test_without_an_effect_a_study_runs_to_the_most_seeds():
    found = expected_seeds(0.0, 0.1, scale=Scale(), schedules=1, rival=False, seeds=(3, 8), margin=0.02)
    assert found.seeds > 7.5
    assert found.beats < 0.03


def test_an_effect_may_be_found_while_the_answer_about_the_rival_is_open():
    found = expected_seeds(0.2, 0.1, scale=Scale(), schedules=1, rival=True, seeds=(3, 4), margin=0.02)
    assert found.beats + found.undecided > 1
    assert re.search(r", found in \d\d%, some answer undecided in \d\d%$", found.in_words())


def test_named_arms_that_are_all_better_are_still_asked_about_in_turn():
    settings = {"scale": Scale(), "schedules": 3, "rival": False, "seeds": (3, 10), "margin": 0.02}
    alone, in_turn = (expected_seeds(0.2, 0.1, **settings, in_turn=each) for each in (False, True))
    assert alone.beats == pytest.approx(in_turn.beats, abs=0.05)
    assert alone.seeds < 6
    assert in_turn.seeds > 9.5
    assert in_turn.undecided > 0.9


def test_arrays_and_records_of_named_arms_stop_alike():
    table, names = tables(4, seed=4, studies=12), ["one", "two", "three"]
    table[:, 1] -= np.linspace(0, 6, 12)[:, None]
    table[:, 2] -= np.linspace(0, 3, 12)[:, None]
    scores = np.reshape(Scale.of("fid").scores(table.ravel()), table.shape)
    ends, _, standing = stops(scores, scale=Scale.of("fid"), rival=False, least=3, margin=0.02, in_turn=True)
    assert 0 < standing.sum() < 12
    for study, (end, stands) in enumerate(zip(ends, standing, strict=True)):
        rows = zip(["uniform", *names], table[study, :, :end].tolist(), strict=True)
        ranking = Ranking.of([run for name, row in rows for run in named_runs(name, row)], "fid", 0.02)
        assert answers_of(ranking, names).settled == stands


def test_few_say_equal_of_a_difference_of_one_and_a_half_margins():
    table = tables(3, studies=4000)
    margin = 2 / 50
    table[:, 1] -= 3.0  # the margin is two deviations
    half = half_widths(table, 0.025)[:, 1]
    gain = (table[:, 0] - table[:, 1]).cumsum(-1)[:, FIRST_SEEDS - 1 :] / np.arange(FIRST_SEEDS, MOST + 1)
    assert (gain + half <= margin * 50).any(-1).mean() < 0.03


@pytest.mark.parametrize("metric", ["fid", "kid", "precision"])
@pytest.mark.parametrize("schedules", [1, 2])
def test_arrays_and_records_stop_alike(metric, schedules):
    table, scale = tables(2 + schedules, seed=3, studies=12), Scale.of(metric)
    gains = np.linspace(0, 3, 12)[:, None]
    table[:, 1] += -gains if scale.lower_is_better else gains
    table[:, schedules] += (schedules - 1) * (table[:, 1] - 50)
    scores = np.reshape(scale.scores(table.ravel()), table.shape)
    ends, beats, standing = stops(scores, scale=scale, rival=True, least=3, margin=0.02)
    arms = [("uniform", 1), *((None, 6 + place) for place in range(schedules)), ("rival", 1)]
    for study, (end, beat, stands) in enumerate(zip(ends, beats, standing, strict=True)):
        records = [
            record(
                0.0,
                metrics={metric: float(table[study, place, seed])},
                role="confirmation",
                seed=FRESH_SEEDS + seed,
                control=control,
                schedule=schedule(clusters),
                description="min_snr, no curriculum" if control == "rival" else None,
            )
            for place, (control, clusters) in enumerate(arms)
            for seed in range(end)
        ]
        ranking = Ranking.of(records, metric, 0.02)
        assert settled(ranking) == stands
        found = {each.key: each.beats for each in against_uniform(ranking) if not each.rival}
        assert [found[f"id-{6 + place}-None"] for place in range(schedules)] == list(beat)
