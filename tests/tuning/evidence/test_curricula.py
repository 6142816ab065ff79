"""An arm is a curriculum by its settings: an arm without one is never called the best curriculum, nor chosen as it."""

from __future__ import annotations

import pytest

from tests.tuning.studies import UNIFORM as CONTROL
from tests.tuning.studies import named_runs, record, schedule, trials
from tuning.evidence.answer import answer
from tuning.evidence.arms import Ranking
from tuning.evidence.table import columns
from tuning.evidence.winner import choose, registered

UNIFORM = named_runs("uniform", [10.0, 11.0, 10.5])
WEIGHTING = named_runs("min_snr", [7.0, 7.71, 7.36], curriculum=False)
LADDER = named_runs("ladder", [8.0, 8.81, 8.39])
LOST = named_runs("ladder", [10.1, 10.9, 10.6])


def _ranking(*runs: list) -> Ranking:
    return Ranking.of([each for arm in runs for each in arm], "fid")


def test_an_arm_has_a_curriculum_where_clusters_join_in_an_order() -> None:
    assert record(schedule=schedule(20)).has_curriculum
    assert not record(schedule=schedule(1, "none")).has_curriculum
    assert not record(schedule=schedule(20), control="rival").has_curriculum
    ranking = _ranking(WEIGHTING, LADDER, UNIFORM)
    assert {arm.name: arm.has_curriculum for arm in ranking.arms} == {
        "min_snr": False,
        "ladder": True,
        "uniform": False,
    }


@pytest.mark.parametrize(
    ("ladder", "chosen", "verdict"), [(LADDER, "ladder", "beats"), (LOST, "uniform", "undecided")]
)
def test_a_better_arm_without_a_curriculum_does_not_take_the_place_of_the_curricula(
    ladder: list, chosen: str, verdict: str
) -> None:
    ranking = _ranking(WEIGHTING, ladder, UNIFORM)
    assert [arm.name for arm in ranking.contenders] == ["ladder"]
    choice = choose(ranking)
    assert choice is not None
    assert (choice.arm.name, choice.curriculum.name, choice.verdict) == (chosen, "ladder", verdict)
    origin = "control-uniform" if chosen == "uniform" else "arm-ladder"
    assert {each.alias: str(each.key) for each in registered(ranking)} == {
        "best": f"confirm-{origin}-seed1000",
        "candidate": "confirm-arm-ladder-seed1000",
    }


def test_the_answer_is_about_all_arms_and_then_about_the_curricula() -> None:
    first, second = answer(_ranking(WEIGHTING, LOST, UNIFORM)).split("; ")
    assert first.startswith("min_snr beats uniform sampling by 29.9% FID [")
    assert second.startswith(
        "the best curriculum, ladder, against uniform sampling: undecided, a gain of -0.3% FID ["
    )
    assert "; " not in answer(_ranking(named_runs("min_snr", [9.0, 9.9, 9.4], False), LADDER, UNIFORM))


def test_arms_are_called_arms() -> None:
    poor = named_runs("min_snr", [10.2, 10.8, 10.7], curriculum=False)
    ranking = _ranking(poor, UNIFORM)
    assert answer(ranking).startswith(
        "undecided: no arm beat uniform sampling beyond noise (the best, min_snr:"
    )
    assert (ranking.noun, ranking.best_noun) == ("arm", "arm")
    assert columns(ranking)[0].title == ("arm",)
    mixed = _ranking(poor, LADDER, UNIFORM)
    assert (mixed.noun, mixed.best_noun) == ("arm", "curriculum")
    searched = Ranking.of([*trials(7.0), record(8.0, **CONTROL)], "fid")
    assert (searched.noun, searched.best_noun) == ("schedule", "schedule")


def test_of_a_study_without_curricula_the_best_arm_is_what_it_stands_for() -> None:
    ranking = _ranking(WEIGHTING, named_runs("p2", [9.0, 9.91, 9.44], curriculum=False), UNIFORM)
    choice = choose(ranking)
    assert choice is not None
    assert (choice.arm.name, choice.curriculum.name, choice.verdict) == ("min_snr", "min_snr", "beats")


def test_a_search_of_other_settings_still_has_a_best_schedule_to_confirm() -> None:
    plain = [
        record(fid, key=f"search-00{fid}", arm_id=f"{fid}", schedule=schedule(1, "none")) for fid in (7, 6)
    ]
    ranking = Ranking.of([*plain, record(8.0, **CONTROL)], "fid")
    assert [run.key for run in ranking.curricula] == ["search-006", "search-007"]
    assert choose(ranking).arm.arm_id == "6"


def test_a_searched_schedule_without_a_curriculum_is_not_confirmed_in_the_place_of_a_curriculum() -> None:
    plain = record(5.0, key="search-000", arm_id="plain", schedule=schedule(1, "none"))
    ranking = Ranking.of([plain, *trials(7.0), record(8.0, **CONTROL)], "fid")
    assert [run.key for run in ranking.curricula] == ["search-007"]
