"""Active sets: densities by stage, and plain training in the last one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.curriculum import CumulativeSet, CurriculumSchedule, NewestWeightedSet, WindowSet

ORDER = (3, 2, 1, 0)
SETS = st.one_of(
    st.builds(CumulativeSet, floor=st.floats(0, 1)),
    st.builds(WindowSet, width=st.integers(1, 12), floor=st.floats(0, 1)),
    st.builds(NewestWeightedSet, newest_weight=st.floats(1, 10), floor=st.floats(0, 1)),
)


def stages(active):
    return [active.densities(ORDER, stage) for stage in range(active.num_stages(4))]


def test_cumulative_adds_one_cluster_a_stage():
    assert stages(CumulativeSet()) == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]


def test_a_window_forgets_the_oldest_and_ends_with_all():
    assert stages(WindowSet(width=2)) == [
        [0, 0, 0, 1],
        [0, 0, 1, 1],
        [0, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 1],
    ]


def test_a_window_as_wide_as_all_is_cumulative():
    assert stages(WindowSet(width=4)) == stages(CumulativeSet())


def test_the_newest_cluster_weighs_more_until_the_last_stage():
    assert stages(NewestWeightedSet(newest_weight=3)) == [
        [0, 0, 0, 3],
        [0, 0, 3, 1],
        [0, 3, 1, 1],
        [3, 1, 1, 1],
        [1, 1, 1, 1],
    ]


def test_the_floor_is_the_density_of_the_others():
    assert CumulativeSet(floor=0.25).densities(ORDER, 1) == [0.25, 0.25, 1, 1]


@given(active=SETS, order=st.permutations(range(6)))
def test_the_last_stage_is_ordinary_training(active, order):
    assert active.densities(order, active.num_stages(6) - 1) == [1.0] * 6


@given(active=SETS, order=st.permutations(range(6)), stage=st.integers(0, 5))
def test_at_every_stage_something_is_active_and_the_newest_most(active, order, stage):
    densities = active.densities(order, stage)
    assert max(densities) >= 1.0
    assert densities[order[stage]] == max(densities)
    assert min(densities) >= min(active.floor, 1.0)


@given(order=st.permutations(range(5)), stage=st.integers(0, 4))
def test_a_floor_of_one_is_no_curriculum(order, stage):
    for active in (CumulativeSet(floor=1.0), WindowSet(width=2, floor=1.0)):
        assert active.densities(order, stage) == [1.0] * 5


@pytest.mark.parametrize("settings", [{"set": "cumulative", "width": 2}, {"set": "window"}, {"floor": 1.5}])
def test_impossible_sets_are_refused(settings):
    data = {
        "version": 1,
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 1},
        "active": settings,
    }
    with pytest.raises(ValueError, match="active"):
        CurriculumSchedule.from_dict(data)
