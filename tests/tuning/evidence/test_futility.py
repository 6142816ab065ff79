"""A study gives up where further seeds would hardly settle it, and loses nearly no finding by that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Ranking
from tuning.evidence.expected import ExpectedSeeds, expected_seeds
from tuning.evidence.futility import FEWEST_TO_GIVE_UP, power_left, predictive_power
from tuning.evidence.looks import answers
from tuning.evidence.scale import Scale
from tuning.study.config import FRESH_SEEDS

MOST, MARGIN, NOISE = 10, 0.02, 0.1


def tables(effect: float, arms: int = 2, studies: int = 150) -> np.ndarray:
    """Metrics of uniform sampling, a schedule that is better by `effect` deviations, and perhaps a rival."""
    rng = np.random.default_rng(0)
    table = 1 + NOISE / np.sqrt(2) * rng.standard_normal((studies, arms, MOST))
    table[:, 1] -= effect * NOISE
    return table


def ends(table: np.ndarray, futility: float) -> tuple[float, float]:
    """The mean number of seeds, and the share that beats uniform sampling, of studies that give up below `futility`."""
    beats, _, stand = answers(table, scale=Scale(), rival=False, margin=MARGIN)
    seeds, found = [], []
    for study, values in enumerate(table):
        for n in range(3, MOST + 1):
            give_up = FEWEST_TO_GIVE_UP <= n < MOST and (
                predictive_power(values[:, :n], MOST, scale=Scale(), rival=False, margin=MARGIN)[0] < futility
            )
            if stand[study, 0, n - 3] or give_up or n == MOST:
                seeds.append(n)
                found.append(beats[study, 0, n - 3])
                break
    return float(np.mean(seeds)), float(np.mean(found))


def test_where_there_is_nothing_to_find_it_gives_up_early_and_an_effect_is_found_as_often() -> None:
    assert ends(tables(0.0), 0.0)[0] > 9.5
    assert ends(tables(0.0), 0.05)[0] < 6
    patient, hasty = ends(tables(1.5), 0.0), ends(tables(1.5), 0.05)
    assert hasty[1] >= patient[1] - 0.02
    assert hasty[0] <= patient[0]


def test_what_is_expected_counts_giving_up_as_studies_do() -> None:
    def expected(effect: float, futility: float, seeds: tuple[int, int] = (3, MOST)) -> ExpectedSeeds:
        settings: dict[str, Any] = {"schedules": 1, "rival": False, "seeds": seeds, "margin": MARGIN}
        settings["scale"] = Scale()
        return expected_seeds(effect * NOISE, NOISE, **settings, futility=futility, studies=60)

    never, early = expected(0.0, 0.0), expected(0.0, 0.05)
    assert never.seeds > 9.5
    assert early.seeds < 6
    assert early.given_up > 0.8
    assert early.undecided >= early.given_up
    assert early.in_words().startswith("no difference: about 5.")
    assert expected(2.0, 0.05).beats >= expected(2.0, 0.0).beats - 0.02
    assert expected(0.0, 0.05, (8, 8)) == expected(0.0, 0.0, (8, 8)), "seeds that all run at once"


def test_the_chance_predicted_is_that_of_studies_like_it() -> None:
    # Among studies that are open after five seeds, with means drawn from a wide prior, predictions average to what
    # happens: that is what makes them chances.
    rng = np.random.default_rng(1)
    effects = rng.uniform(-4, 4, 400)
    table = 1 + NOISE / np.sqrt(2) * rng.standard_normal((400, 2, MOST))
    table[:, 1] -= (effects * NOISE)[:, None]
    _, first, _ = answers(table, scale=Scale(), rival=False, margin=MARGIN)
    still = ~first[:, 0, 2]
    predicted = [
        predictive_power(values[:, :5], MOST, scale=Scale(), rival=False, margin=MARGIN)[0]
        for values in table[still]
    ]
    happened = first[still, 0, 3:].any(-1)
    assert np.mean(predicted) == pytest.approx(happened.mean(), abs=0.06)
    low = np.array(predicted) < 0.5
    assert happened[low].mean() < happened[~low].mean() - 0.3


def test_settled_questions_have_nothing_left_and_the_rival_is_the_second_one() -> None:
    table = tables(6.0, arms=3, studies=20)
    far = [predictive_power(each[:, :6], MOST, scale=Scale(), rival=True, margin=MARGIN)[0] for each in table]
    assert max(far) == 0
    table[:, 2] -= 6.0 * NOISE
    beside = [
        predictive_power(each[:, :6], MOST, scale=Scale(), rival=True, margin=MARGIN)[0] for each in table
    ]
    assert 0 < np.mean(beside) < 0.3


def ranking(table: np.ndarray, metric: str = "fid", sign: float = 1.0) -> Ranking:
    """A confirmed schedule beside uniform sampling, (2, seeds)."""
    records = [
        record(
            role="confirmation",
            seed=FRESH_SEEDS + seed,
            control=control,
            schedule=schedule(clusters),
            metrics={metric: sign * float(values[seed])},
        )
        for values, control, clusters in zip(table, ("uniform", None), (1, 6), strict=True)
        for seed in range(table.shape[1])
    ]
    return Ranking.of(records, metric, MARGIN)


def test_few_seeds_say_nothing_and_the_most_leave_nothing() -> None:
    luck = NOISE * np.array([1, -1, 0.5, -0.5, 0, 0.8, -0.8, 0, 0.3, -0.3])
    table = 1 + np.stack([luck, np.roll(luck, 1)])
    assert power_left(ranking(table[:, : FEWEST_TO_GIVE_UP - 1]), 6) == 1
    assert power_left(ranking(table[:, :6]), 4) < 0.05
    assert power_left(ranking(table), 0) == 0


def test_seeds_that_are_gone_are_not_counted_on() -> None:
    # Open after five of ten seeds; the arm failed on three more, so that two are left, and not five.
    table = tables(1.5, studies=4)[3, :, :5]
    assert 0 < power_left(ranking(table), 2) < power_left(ranking(table), 5)


@pytest.mark.parametrize(
    ("ahead", "failing", "is_open"),
    [
        (True, None, False),
        (False, None, True),  # it can still lose
        (True, "uniform", True),  # it can still win
        (False, "uniform", False),
    ],
)
def test_an_arm_that_failed_on_a_seed_is_not_waited_for_until_it_wins(
    ahead: bool, failing: str | None, is_open: bool
) -> None:
    table = tables(1.5, studies=4)[3, :, :5]
    found = ranking(table if ahead else table[::-1])
    seed = FRESH_SEEDS + 5
    further = [
        record(
            None if control == failing else 1.0,
            role="confirmation",
            seed=seed,
            control=control,
            schedule=schedule(clusters),
        )
        for control, clusters in (("uniform", 1), (None, 6))
    ]
    assert power_left(found, 4) > 0.3
    left = power_left(Ranking.of([*found.records, *further], "fid", MARGIN), 4)
    assert left > 0.3 if is_open else left < 0.05


def test_a_rival_that_failed_on_most_seeds_is_not_waited_for() -> None:
    luck = NOISE * np.array([1, -1, 0.5, -0.5, 0, 0.8, -0.8])
    found = ranking(1 + np.stack([luck, np.roll(luck, 1)]))
    rivals = [
        record(
            None if seed > 1 else 1.0,
            role="confirmation",
            seed=FRESH_SEEDS + seed,
            control="rival",
            schedule=schedule(1),
        )
        for seed in range(7)
    ]
    assert power_left(Ranking.of([*found.records, *rivals], "fid", MARGIN), 3) < 0.05
    # A single failure is made up for by the next seed.
    assert power_left(Ranking.of([*found.records, *rivals[:3]], "fid", MARGIN), 3) == 1


def test_the_direction_of_the_metric_is_heeded() -> None:
    # A difference that falls short of an interval by little: more seeds are worth it whichever way it points.
    table = tables(1.5, studies=4)[3, :, :5]
    assert power_left(ranking(table, "kid"), 5) == power_left(ranking(table, "recall", -1.0), 5) > 0.05
