"""The answer claims no more than the intervals do, and asks of rivals only what is left to ask."""

import math

import numpy as np
import pytest

from tests.tuning.studies import UNIFORM, fresh, record, schedule, trials
from tuning.evidence.answer import answer, as_sentence, rival_verdict, verdict
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import (
    Difference,
    against_rival,
    against_uniform,
    settled,
)
from tuning.evidence.winner import choose, registered


def sentence(mean, low, high, **changes):
    values = {"key": "x", "name": "cumulative 6-cluster easy_to_hard", "control": 10.0, "seeds": 3, **changes}
    return verdict([Difference(mean=mean, low=low, high=high, **values)], "fid", 76800)


def test_the_verdict_claims_what_the_interval_holds():
    assert sentence(0.81, 0.3, 1.29) == (
        "cumulative 6-cluster easy_to_hard beats uniform sampling by 8.1% FID [3.0, 12.9], 3 seeds, "
        "77k images"
    )
    assert sentence(0.81, -0.3, 1.9) == (
        "undecided: no schedule beat uniform sampling beyond noise (the best, cumulative 6-cluster easy_to_hard: "
        "a gain of 8.1% FID [-3.0, 19.0], 3 seeds, 77k images)"
    )
    assert sentence(0.05, -0.1, 0.2).startswith(
        "cumulative 6-cluster easy_to_hard and uniform sampling are equal within ±2%: "
        "a gain of 0.5% FID [-1.0, 2.0]"
    )
    assert sentence(0.05, -0.1, 0.2, margin=0.019).startswith("undecided: ")
    assert sentence(0.1, 0.05, 0.15).startswith("cumulative 6-cluster easy_to_hard beats ")
    assert sentence(-0.81, -1.3, -0.3).startswith(
        "uniform sampling beats every confirmed schedule (the best, cumulative 6-cluster easy_to_hard: "
        "a gain of -8.1% FID [-13.0, -3.0]"
    )
    assert "no schedule was compared" in verdict([], "fid", 1000)


def compared(table):
    """The verdicts on a table of FID: uniform sampling, the rival, then schedules; columns are seeds."""
    names = ["uniform", "rival", *[None] * (len(table) - 2)]
    records = [
        record(
            value,
            role="confirmation",
            seed=1000 + seed,
            control=control,
            schedule=schedule(6 + place),
            arm_id=f"arm {place}",
            description="min_snr, no curriculum" if control == "rival" else f"schedule {place}",
        )
        for place, (control, row) in enumerate(zip(names, table, strict=True))
        for seed, value in enumerate(row)
    ]
    ranking = Ranking.of(records, "fid")
    first, second = against_uniform(ranking), against_rival(ranking)
    return first, second, rival_verdict(first, second, "fid")


NOISE = np.array([[0.1, -0.1, 0.05, 0.0, -0.05], [-0.1, 0.0, 0.1, 0.05, 0.0], [0.0, 0.1, -0.05, 0.0, 0.1]])


@pytest.mark.parametrize(
    ("means", "says"),
    [
        ((10, 8, 6), "schedule 2 beats the best rival, min_snr, no curriculum, by "),
        ((10, 6, 8), "the best rival, min_snr, no curriculum, beats every confirmed schedule"),
        ((10, 8, 8), "no schedule beat the best rival, min_snr, no curriculum, beyond noise"),
        # Better than a poor rival, but not than uniform sampling: no claim in a fixed sequence.
        ((10, 14, 10), "not asked about the best rival, min_snr, no curriculum, as no schedule beat uniform"),
    ],
)
def test_the_second_question_is_whether_a_schedule_beats_the_best_rival(means, says):
    _, _, sentence = compared(NOISE + np.array(means, dtype=float)[:, None])
    assert sentence.startswith(says)


def test_a_comparison_that_is_not_asked_is_no_answer_anywhere():
    _, (poor,), _ = compared(NOISE + np.array([10.0, 14.0, 10.0])[:, None])
    assert poor.beats
    assert (poor.asked, poor.answer) == (False, "not asked")
    assert (poor.to_json()["verdict"], poor.to_json()["beats_rival"]) == ("not asked", False)
    _, (ahead,), _ = compared(NOISE + np.array([10.0, 8.0, 6.0])[:, None])
    assert (ahead.answer, ahead.to_json()["beats_rival"]) == ("beats", True)
    # The rival's own sequence: it beats uniform sampling, and then all schedules.
    _, (behind,), _ = compared(NOISE + np.array([10.0, 6.0, 8.0])[:, None])
    assert (behind.answer, behind.asked) == ("loses", True)


def test_a_rival_is_compared_with_uniform_sampling_but_is_no_schedule():
    table = NOISE + np.array([10.0, 6.0, 10.0])[:, None]
    first, second, _ = compared(table)
    assert [found.rival for found in first] == [True, False]
    assert verdict(first, "fid", 1000).startswith("undecided: no schedule beat uniform sampling")
    (against,) = second
    ratio = np.exp(np.log(table[2]).mean() - np.log(table[1]).mean())
    assert against.mean == pytest.approx(table[1].mean() * (1 - ratio))
    assert against.control == pytest.approx(table[1].mean())


def test_without_a_rival_there_is_no_second_question():
    records = [
        record(value, role="confirmation", seed=seed, control=control, schedule=schedule(6))
        for seed in (1000, 1001)
        for control, value in ((None, 9.0 + seed % 2), ("uniform", 10.0))
    ]
    assert against_rival(Ranking.of(records, "fid")) == []
    assert rival_verdict([], [], "fid") == ""


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(0, "(not confirmed on fresh seeds)"), (1, "(1 fresh seed: too few"), (2, "(2 fresh seeds: too few")],
)
def test_an_answer_without_an_interval_says_how_many_fresh_seeds_it_has(seeds, said):
    records = [*trials(8.0), record(9.0, **UNIFORM)]
    records += [*fresh([8.1, 8.3][:seeds], 8), *fresh([9.1, 9.3][:seeds], 1)]
    words = answer(Ranking.of(records, "fid"))
    assert " reached FID 8." in words
    assert said in words


def test_a_sentence_begins_with_a_capital_but_a_name_stays_a_name():
    named = record(9.0, arm_name="min_snr_paper_10")
    ranking = Ranking.of([named, record(10.0, arm_name="uniform", **UNIFORM)], "fid")
    assert as_sentence("min_snr_paper_10 beats uniform sampling", ranking) == (
        "min_snr_paper_10 beats uniform sampling."
    )
    assert as_sentence("undecided: no schedule", ranking) == "Undecided: no schedule."
    assert as_sentence("uniform sampling is the best", ranking) == "Uniform sampling is the best."


def test_a_name_before_a_comma_stays_a_name_too():
    named = record(9.0, arm_name="min-SNR")
    ranking = Ranking.of([named, record(10.0, arm_name="uniform", **UNIFORM)], "fid")
    assert as_sentence("min-SNR, against uniform sampling: a gain", ranking).startswith("min-SNR, against")


@pytest.mark.parametrize(
    ("metric", "ours", "uniform", "says"),
    [
        ("fid", 25.0, 10.0, "uniform sampling is the best: FID 10.00, 60.0% better than 25.00 of"),
        ("fid", 10.0, 25.0, "reached FID 10.00, 60.0% better than 25.00 of uniform sampling"),
        ("inception_score", 5.0, 10.0, "uniform sampling is the best: IS 10.00, 100.0% better than 5.00 of"),
        ("inception_score", 10.0, 5.0, "reached IS 10.00, 100.0% better than 5.00 of uniform sampling"),
    ],
)
def test_what_is_better_is_so_by_a_share_of_what_it_is_compared_with(metric, ours, uniform, says):
    runs = [record(1.0, metrics={metric: ours}), record(1.0, metrics={metric: uniform}, **UNIFORM)]
    assert says in answer(Ranking.of(runs, metric))


@pytest.mark.parametrize(
    ("mean", "low", "high", "says"),
    [
        (-0.0004, -0.3, 0.3, "a gain of -0.004% FID [-3.0, 3.0]"),
        (0.5, 0.003, 0.9, "5.0% FID [0.03, 9.0]"),
        (0.0, -0.3, 0.3, "a gain of 0.0% FID [-3.0, 3.0]"),
        (-1e-9, -0.3, 0.3, "a gain of 0.0000% FID [-3.0, 3.0]"),
    ],
)
def test_no_end_of_an_interval_is_rounded_onto_zero(mean, low, high, says):
    assert says in sentence(mean, low, high)


def named(name, fids, control=None):
    """Confirmations of an arm of this name; None for a run that failed."""
    return [
        record(
            fid,
            role="confirmation",
            seed=seed,
            control=control,
            arm_id=name,
            arm_name=name,
            schedule=schedule(1 if control else 6, "none" if control else "easy_to_hard"),
        )
        for seed, fid in enumerate(fids, start=1000)
    ]


CONTROL = [10.0, 10.1, 9.9, 10.05, 9.95, 10.02]


def times(*factors):
    return [fid * factor for fid, factor in zip(CONTROL, factors, strict=True)]


WIDE = times(0.76, 0.98, 0.82, 0.99, 0.78, 0.9)
SURE = times(0.88, 0.885, 0.88, 0.875, 0.88, 0.88)


def test_a_schedule_that_wins_is_not_hidden_by_a_noisier_one_with_a_larger_gain():
    records = [*named("uniform", CONTROL, "uniform"), *named("wide", WIDE), *named("sure", SURE)]
    records += named("third", times(1.0, 1.01, 0.99, 1.0, 1.01, 0.99))
    ranking = Ranking.of(records, "fid")
    assert against_uniform(ranking)[0].name == "wide"
    assert answer(ranking).startswith("sure beats uniform sampling by 12.0% FID [")
    assert [each.verdict for each in registered(ranking)] == ["beats", "beats"]
    assert choose(ranking).arm.name == "sure"


def test_uniform_sampling_beats_every_schedule_only_where_each_loses():
    worse = [named(name, times(*(2 - fid / 10 for fid in SURE))) for name in ("one", "two", "three")]
    records = [*named("uniform", CONTROL, "uniform"), *(run for arm in worse for run in arm)]
    assert answer(Ranking.of(records, "fid")).startswith("uniform sampling beats every confirmed schedule")
    records += named("wide", times(1.6, 0.9, 1.5, 0.8, 1.4, 1.0))
    assert answer(Ranking.of(records, "fid")).startswith("undecided: no schedule beat uniform sampling")


def test_a_schedule_that_failed_where_uniform_sampling_finished_wins_nothing():
    records = [*named("uniform", CONTROL, "uniform"), *named("sure", [*SURE[:4], None, None])]
    ranking = Ranking.of(records, "fid")
    (found,) = against_uniform(ranking)
    assert found.low > 0
    assert (found.verdict, found.seeds, found.failed) == ("undecided", 4, 2)
    assert "4 seeds, failed on 2 more" in answer(ranking)
    assert choose(ranking).arm.is_uniform
    assert not settled(ranking)


def test_a_schedule_does_not_lose_to_a_control_that_failed_where_it_finished():
    records = [*named("uniform", [*CONTROL[:4], None, None], "uniform"), *named("worse", times(*[2.0] * 6))]
    (found,) = against_uniform(Ranking.of(records, "fid"))
    assert found.high < 0
    assert (found.verdict, found.other_failed) == ("undecided", 2)
    assert found.in_words("fid").endswith("4 seeds, uniform sampling failed on 2 more")


def test_seeds_on_which_both_failed_say_nothing():
    records = [*named("uniform", [*CONTROL[:5], None], "uniform"), *named("sure", [*SURE[:5], None])]
    (found,) = against_uniform(Ranking.of(records, "fid"))
    assert (found.verdict, found.failed, found.other_failed) == ("beats", 0, 0)


def test_an_arm_that_finished_on_no_fresh_seed_is_named():
    records = [
        *named("uniform", CONTROL, "uniform"),
        *named("sure", SURE),
        *named("rival", [None] * 3, "rival"),
    ]
    assert answer(Ranking.of(records, "fid")).endswith("; rival failed on 3 fresh seeds and finished on none")


def test_a_schedule_with_too_few_seeds_is_not_among_those_that_all_lose():
    records = [
        *named("uniform", CONTROL, "uniform"),
        *named("worse", times(*[1.3, 1.31, 1.3, 1.29, 1.3, 1.3])),
    ]
    assert answer(Ranking.of(records, "fid")).startswith("uniform sampling beats every confirmed schedule")
    records += named("lucky", [7.0, 7.1, None, None, None])
    words = answer(Ranking.of(records, "fid"))
    assert words.startswith("undecided: no schedule beat uniform sampling beyond noise (the best, worse: ")
    assert words.endswith("; lucky failed on 3 fresh seeds and finished on 2")


def test_a_run_whose_metric_is_no_number_counts_as_failed():
    records = [*named("uniform", CONTROL, "uniform"), *named("sure", [*SURE[:4], math.nan, math.inf])]
    ranking = Ranking.of(records, "fid")
    (found,) = against_uniform(ranking)
    assert found.low > 0
    assert (found.verdict, found.failed) == ("undecided", 2)
