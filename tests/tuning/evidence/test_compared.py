"""Protects: a stored difference keeps which runs failed, and is judged by any margin as the difference itself was."""

from __future__ import annotations

import pytest

from tuning.evidence.compared import Compared, Turn, compared, in_full
from tuning.evidence.differences import Difference

FOUND = Difference("a", "a", 0.2, -0.1, 0.5, control=10.0, seeds=5, margin=0.02, against="p2")


@pytest.mark.parametrize(
    ("failed", "other_failed", "says"),
    [
        (0, 0, "+2.0% [-1.0, 5.0]"),
        (1, 0, "+2.0% [-1.0, 5.0], 5 seeds, failed on 1 more"),
        (0, 2, "+2.0% [-1.0, 5.0], 5 seeds, p2 failed on 2 more"),
        (1, 2, "+2.0% [-1.0, 5.0], 5 seeds, failed on 1 more, p2 failed on 2 more"),
    ],
)
def test_failed_runs_are_said_beside_the_seeds_as_of_a_difference(
    failed: int, other_failed: int, says: str
) -> None:
    found = Difference(**{**vars(FOUND), "failed": failed, "other_failed": other_failed})
    stored = compared(found)
    assert stored is not None
    assert in_full(stored, "p2") == says
    assert Turn(name="a", against="p2", compared=stored, asked=True).in_words(0.02) == f"undecided: {says}"
    assert stored.failures("p2") == found.failures


def test_a_stored_difference_without_counts_of_failures_has_none() -> None:
    found = Compared.model_validate({"word": "beats", "percent": 8.1, "low": 3.0, "high": 12.9, "seeds": 4})
    assert (found.failed, found.other_failed) == (0, 0)
    assert in_full(found, "p2") == "+8.1% [3.0, 12.9]"
    assert in_full(None, "p2") == "–"


@pytest.mark.parametrize("ends", [(-0.1, 0.5), (0.1, 0.5), (-0.5, -0.1), (-0.3, 0.3)])
@pytest.mark.parametrize("failed", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("margin", [0.001, 0.04, 0.1])
def test_another_margin_gives_the_word_that_the_difference_has_by_it(
    ends: tuple[float, float], failed: tuple[int, int], margin: float
) -> None:
    def judged(by: float) -> Difference:
        low, high = ends
        return Difference(
            "a", "a", 0.2, low, high, 10.0, 5, margin=by, failed=failed[0], other_failed=failed[1]
        )

    before = compared(judged(0.02))
    assert before is not None
    assert before.judged(margin) == compared(judged(margin))
