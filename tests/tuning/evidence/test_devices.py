"""Kinds of device are said where they are mixed, since an arm's gain may then be its device's."""

from __future__ import annotations

from tests.tuning.studies import fresh, trials
from tuning.evidence.answer import answer
from tuning.evidence.arms import Ranking
from tuning.evidence.devices import mixed_kinds, mixed_pairs

A10G, T4 = ("NVIDIA A10G",), ("Tesla T4",)


def test_trials_on_one_kind_or_an_unknown_one_say_nothing() -> None:
    assert mixed_kinds(trials(3, 4, devices=A10G) + trials(5)) is None


def test_several_kinds_are_counted() -> None:
    assert mixed_kinds(trials(3, 4, devices=A10G) + trials(5, devices=(*A10G, *T4))) == (
        "trials ran on several kinds of device: NVIDIA A10G (2 trials), NVIDIA A10G and Tesla T4 (1 trial)"
    )


def test_a_confirmation_says_on_how_many_seeds_the_arms_had_different_devices() -> None:
    arm = fresh([9.0, 9.1, 9.2], 20, devices=A10G)
    same = fresh([10.0, 10.1, 10.2], 1, devices=A10G)
    assert mixed_pairs(Ranking.of(arm + same, "fid")) is None
    first, *rest = same
    mixed = Ranking.of([*arm, first.model_copy(update={"devices": T4}), *rest], "fid")
    said = mixed_pairs(mixed)
    assert said is not None
    assert said.startswith(
        "on 1 of 3 fresh seeds the arms ran on several kinds of device (NVIDIA A10G, Tesla T4)"
    )
    assert answer(mixed).endswith(said)
