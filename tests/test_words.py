"""Numbers of things are one, or more."""

import pytest

from curriculum_ray.words import capitalized, number_of, there_are


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 seeds"),
        (1, "1 seed"),
        (2, "2 seeds"),
        (1.0, "1 seed"),
        (0.5, "0.5 seeds"),
        ("1 to 4", "1 to 4 seeds"),
    ],
)
def test_one_thing_has_no_s(count: float | str, said: str) -> None:
    assert number_of(count, "seed") == said


def test_what_stands_between_the_number_and_the_noun() -> None:
    assert number_of(1, "seed", "more fresh ") == "1 more fresh seed"


def test_one_is_there_and_others_are() -> None:
    assert [there_are(count) for count in (1, 1.0, 0.5, 4)] == [
        "there is 1",
        "there is 1",
        "there are 0.5",
        "there are 4",
    ]


def test_only_the_first_letter_becomes_a_capital() -> None:
    assert capitalized("runs of min-SNR on an A100") == "Runs of min-SNR on an A100"
    assert capitalized("") == ""
