"""Protects: the first arm is judged against the others only as long as it wins, and no answer is skipped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.tuning.studies import named_runs
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import Difference
from tuning.evidence.in_turn import Answers, answers_of

NAMES = ["claim", "reverse", "rival"]


def answers(margin: float = 0.02, **fids: Sequence[float | None]) -> Answers:
    records = [each for name, values in fids.items() for each in named_runs(name, values)]
    return answers_of(Ranking.of(records, "fid", margin), NAMES)


UNIFORM = [10.0, 11.0, 12.0, 10.5]
NOISE = np.array([0.01, -0.005, 0.0, 0.005])


def better(by: float, turn: int = 0) -> list[float]:
    """About `by` below uniform sampling's FID of 11, with its luck."""
    return list(np.array(UNIFORM) * (1 - by / 11 + np.roll(NOISE, turn)))


def words(found: Answers) -> list[str]:
    return [found.against_uniform[name].verdict for name in NAMES]


def ends(found: Difference) -> tuple[float, float, float]:
    """The mean of a difference and the ends of its interval."""
    assert found.low is not None
    assert found.high is not None
    return found.mean, found.low, found.high


def test_an_arm_that_wins_is_asked_against_all_others_in_their_order() -> None:
    found = answers(uniform=UNIFORM, claim=better(5), reverse=better(-3, 1), rival=better(2, 2))
    assert words(found) == ["beats", "loses", "beats"]
    assert found.asked == ["reverse", "rival"]
    assert [each.verdict for each in found.in_turn.values()] == ["beats", "beats"]
    assert [(each.name, each.against) for each in found.in_turn.values()] == [
        ("claim", "reverse"),
        ("claim", "rival"),
    ]
    assert found.settled


def test_nothing_is_asked_after_the_first_comparison_that_is_not_won() -> None:
    found = answers(uniform=UNIFORM, claim=better(5), reverse=better(7, 1), rival=better(1, 2))
    assert found.asked == ["reverse"]
    assert found.in_turn["reverse"].verdict == "loses"
    assert found.settled
    assert not answers(uniform=UNIFORM, claim=better(-5), reverse=better(5, 1), rival=better(2, 2)).asked


def test_more_seeds_are_needed_while_an_answer_that_is_asked_is_open() -> None:
    tie = answers(uniform=UNIFORM, claim=better(5), reverse=better(5, 1), rival=better(2, 2))
    assert words(tie) == ["beats"] * 3
    assert tie.in_turn["reverse"].verdict == "undecided"
    assert not tie.settled
    assert answers(0.5, uniform=UNIFORM, claim=better(5), reverse=better(5, 1), rival=better(2, 2)).settled
    assert not answers(
        uniform=UNIFORM, claim=better(5), reverse=better(-5, 1), rival=[9.0, 12.0, 12.5, 10.0]
    ).settled


def test_the_comparisons_in_turn_say_which_of_them_count_and_what_is_open() -> None:
    found = answers(uniform=UNIFORM, claim=better(5), reverse=better(5, 1), rival=better(2, 2))
    assert [(turn.name, turn.against, turn.asked) for turn in found.turns] == [
        ("claim", "reverse", True),
        ("claim", "rival", False),
    ]
    first, second = (turn.in_words(0.02) for turn in found.turns)
    mean, low, high = (found.in_turn["reverse"].percent(end) for end in ends(found.in_turn["reverse"]))
    assert first == f"undecided: {mean:+.1f}% [{low:.1f}, {high:.1f}]"
    assert second.startswith("not asked: +")
    assert found.undecided == ["claim against reverse"]
    noisy = answers(uniform=UNIFORM, claim=better(5), reverse=better(-5, 1), rival=[9.0, 12.0, 12.5, 10.0])
    assert noisy.undecided == ["rival against uniform sampling"]


def test_an_arm_whose_runs_fail_leaves_its_answer_open() -> None:
    found = answers(uniform=UNIFORM, claim=better(5), reverse=[None] * 4, rival=better(2, 2))
    assert set(found.against_uniform) == {"claim", "rival"}
    assert found.asked == ["reverse"]
    assert not found.settled


@pytest.mark.parametrize("gain", [0.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_equal_arms_are_seldom_told_apart_at_any_look(gain: float) -> None:
    """All arms are equal to each other, and to uniform sampling or far from it: nothing else may be claimed."""
    rng = np.random.default_rng(int(gain))
    false = 0
    for _ in range(100):
        table = 50 + 5 * rng.standard_normal(6) + rng.standard_normal((4, 6))
        table[1:] -= 5 * gain
        wrong = False
        for look in range(3, 7):
            fids = dict(zip(["uniform", *NAMES], table[:, :look].tolist(), strict=True))
            found = answers(1e-9, **fids)
            turns = [found.in_turn[name].verdict for name in found.asked]
            others = [] if gain else words(found)
            wrong |= any(word != "undecided" for word in (*turns, *others))
        false += wrong
    # At most 5% by construction; 4 standard errors of 100 studies on top.
    assert false <= 5 + 4 * (100 * 0.05 * 0.95) ** 0.5


def test_arms_without_a_finished_run_of_uniform_sampling_have_no_answers_yet() -> None:
    found = answers(claim=[9.0, 9.1], reverse=[9.5, 9.6], uniform=[None])
    assert (found.against_uniform, found.in_turn, found.asked) == ({}, {}, [])
    assert not found.settled
