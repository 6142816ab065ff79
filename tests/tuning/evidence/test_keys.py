"""A trial's key is written and read in one place, and what is none is refused."""

from __future__ import annotations

import copy
import pickle

import pytest

from tuning.evidence.keys import TrialKey


def test_a_key_says_what_its_trial_is_for() -> None:
    key = TrialKey.search(7)
    assert (key, key.number, key.rung) == ("search-007", 7, None)
    low = key.at_rung(1)
    assert (low, low.number, low.rung) == ("rung1-007", 7, 1)
    assert low.at_rung(2) == key.at_rung(2)
    assert TrialKey.search(1234).number == 1234
    twin = key.twin("easy_to_hard")
    assert twin.confirmation(1000) == "confirm-twin-search-007-easy_to_hard-seed1000"
    assert TrialKey.uniform().confirmation(3) == "confirm-control-uniform-seed3"
    assert TrialKey.rival("x-seed5").confirmation(1) == "confirm-rival-x-seed5-seed1"
    with pytest.raises(ValueError, match="control-uniform tries no searched schedule"):
        _ = TrialKey.uniform().number


def test_searched_trials_at_the_full_budget_are_known_by_their_keys() -> None:
    key = TrialKey.search(7)
    others = (
        key.at_rung(0),
        key.twin("random"),
        key.confirmation(1),
        TrialKey.uniform(),
        "search-007 (copy)",
    )
    assert TrialKey.searches(key)
    assert not any(map(TrialKey.searches, others))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "search-7",
        "search-007 ",
        "control-reversed",
        "rung-001",
        "twin-a-random",
        "confirm-search-007",
    ],
)
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a trial's key must be like"):
        TrialKey(text)


def test_a_key_stays_one_when_it_is_copied_or_sent_to_another_process() -> None:
    key = TrialKey.search(7).twin("random")
    for other in (copy.deepcopy(key), pickle.loads(pickle.dumps(key))):  # noqa: S301
        assert (type(other), other) == (TrialKey, key)
