"""The claim in words: yes needs a trend, in every seed, beyond the error; anything else is no."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.curriculum import DifficultyCurve
from tuning.difficulty.verdict import agreement, judge, judge_all, summary


def curve(difficulty: list[float], **more: Any) -> DifficultyCurve:
    count = len(difficulty)
    values = {
        "kind": "convergence",
        "data": "digits",
        "process": "ddpm-epsilon",
        "u": tuple(k / count for k in range(count + 1)),
        "difficulty": tuple(difficulty),
    }
    return DifficultyCurve.model_validate(values | more)


def by_seed(*rows: list[float]) -> DifficultyCurve:
    mean = torch.tensor(rows).double().mean(0).tolist()
    return curve(mean, meta={"by_seed": [list(row) for row in rows]})


FALLING = [800.0, 500, 300, 200, 150, 100, 80, 60, 55, 50]


def test_a_falling_curve_is_a_yes_with_its_numbers() -> None:
    verdict = judge("convergence", curve(FALLING))
    assert verdict.yes
    assert verdict.sentence() == "yes by convergence (Spearman −1.00; cleanest fifth 12 times the noisiest)"


def test_seeds_are_stated_with_their_spread() -> None:
    verdict = judge("convergence", by_seed(FALLING, [*FALLING[:-2], 50, 55]))
    assert verdict.sentence().startswith("yes by convergence (Spearman −0.99, seeds −1.00 to −0.99; ")


def test_one_seed_is_said_to_have_no_error() -> None:
    inside = "Spearman −1.00, one seed, no error known; cleanest fifth 12 times the noisiest"
    assert judge("convergence", by_seed(FALLING)).sentence() == f"yes by convergence ({inside})"
    assert "no error known" not in judge("gaussian", curve(FALLING, kind="relative_entropy")).sentence()


@given(st.integers(3, 60), st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_a_flat_curve_is_a_no(count: int, height: float) -> None:
    verdict = judge("loss", curve([height] * count))
    assert not verdict.yes
    assert verdict.correlation == 0


@given(st.lists(st.floats(0.01, 1e4), min_size=3, max_size=40, unique=True))
@settings(max_examples=50, deadline=None)
def test_a_rising_curve_is_a_no_and_called_the_reverse(values: list[float]) -> None:
    verdict = judge("loss", curve(sorted(values)))
    assert not verdict.yes
    assert "the reverse" in verdict.sentence()


@given(st.permutations([float(k) for k in range(1, 11)]))
@settings(max_examples=100, deadline=None)
def test_a_curve_and_its_reverse_are_never_both_a_yes(values: list[float]) -> None:
    forwards, backwards = judge("loss", curve(values)), judge("loss", curve(values[::-1]))
    assert not (forwards.yes and backwards.yes)
    assert forwards.correlation == pytest.approx(-backwards.correlation)


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (curve([1.0, 9, 8, 7, 6, 5, 6, 7, 8, 9]), "no clear trend"),
        (by_seed(FALLING, FALLING, [60.0, 500, 300, 200, 150, 100, 80, 60, 55, 50][::-1]), "no clear trend"),
        (by_seed([9.0, 8, 7, 6, 5, 4], [9.0, 8, 7, 6, 5, 4], [9.0, 6, 8, 4, 7, 5]), "not in every seed"),
        (curve([1.004, 1.003, 1.002, 1.001, 1.0]), "the ends differ by less than 5%"),
        (curve([5.0, 4, 3, 2, 1], stderr=(2, 2, 2, 2, 2)), "the ends differ by no more than their error"),
        (by_seed([9.0, 8, 7, 6, 5, 4], [50.0, 8, 7, 6, 5, 4]), "the ends differ by no more than their error"),
    ],
)
def test_each_way_to_fail_is_named(measured: DifficultyCurve, reason: str) -> None:
    verdict = judge("convergence", measured)
    assert not verdict.yes
    assert verdict.reason == reason
    assert verdict.sentence().startswith("no by convergence (")


def test_interpolated_timesteps_do_not_count_as_evidence() -> None:
    """Ten bins fall, but of the three that were measured one is out of order."""
    values = [10.0, 9, 8, 7, 6, 5, 4, 3, 2, 9.5]
    assert judge("relative_entropy", curve(values)).correlation < -0.4
    measured = curve(values, kind="relative_entropy", meta={"timesteps": [1, 8, 9]})
    assert judge("relative_entropy", measured).correlation == pytest.approx(0.5)


def test_gradients_agree_when_cosines_fall_with_distance_and_not_otherwise() -> None:
    count = 6
    distance = (torch.arange(count)[:, None] - torch.arange(count)).abs()
    fading = (0.5**distance).double().tolist()
    alike = torch.ones(count, count).double().tolist()
    assert agreement(curve([1.0] * count, kind="gradient", similarity=fading)) == (True, pytest.approx(-1.0))
    assert agreement(curve([1.0] * count, kind="gradient", similarity=alike)) == (False, 0.0)


def test_the_summary_holds_all_answers() -> None:
    text = summary([judge("relative_entropy", curve(FALLING)), judge("loss", curve(FALLING[::-1]))])
    assert text == (
        "Low-noise timesteps are harder: yes by relative entropy (Spearman −1.00; cleanest fifth 12 times the "
        "noisiest), no by final loss (Spearman +1.00: the reverse, high-noise timesteps are harder)."
    )


def test_log_snr_is_no_answer_as_it_is_the_same_for_all_data() -> None:
    snr = {"snr": curve([4.0, 2, 0, -2, -4], kind="snr")}
    assert judge_all(snr) == {}
    assert summary([]) == (
        "Low-noise timesteps are harder: not measured, as log-SNR depends on the process alone, and says nothing about "
        "the data."
    )
    assert list(judge_all(snr | {"loss": curve(FALLING, kind="loss")})) == ["loss"]
