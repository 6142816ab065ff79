"""Orders: permutations of the clusters by difficulty, chance or choice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import (
    Beta,
    CurriculumSchedule,
    DifficultyCurve,
    ExplicitOrder,
    NoOrder,
    RandomOrder,
    SortedOrder,
    Uniform,
    join_order,
)
from curriculum_ray.diffusion.levels import FlowTimes


def edges(count: int) -> torch.Tensor:
    return torch.arange(count + 1, dtype=torch.float64) / count


def order(spec, count: int = 5, base=None) -> tuple[int, ...]:
    return join_order(spec, edges(count), base or Uniform(), FlowTimes())


def test_easy_to_hard_starts_with_the_noisiest_cluster():
    assert order(SortedOrder(direction="easy_to_hard")) == (4, 3, 2, 1, 0)
    assert order(SortedOrder(direction="hard_to_easy")) == (0, 1, 2, 3, 4)


@given(count=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_every_order_is_a_permutation_and_a_seed_repeats_it(count, seed):
    for spec in (NoOrder(), SortedOrder(direction="easy_to_hard")):
        assert sorted(order(spec, count)) == list(range(count))
    if count > 2:
        assert sorted(order(RandomOrder(seed=seed), count)) == list(range(count))
        assert order(RandomOrder(seed=seed), count) == order(RandomOrder(seed=seed), count)


@given(count=st.integers(3, 6), seed=st.integers(0, 2**32))
def test_a_random_order_is_never_a_sorted_one(count, seed):
    ordered = tuple(range(count))
    assert order(RandomOrder(seed=seed), count) not in (ordered, ordered[::-1])


def test_two_clusters_have_no_random_order():
    with pytest.raises(ConfigError, match=r"order\.direction random needs 3 clusters or more, .* but got 2"):
        order(RandomOrder(), 2)


def test_random_orders_differ_between_seeds():
    assert len({order(RandomOrder(seed=seed), 20) for seed in range(10)}) == 10


def test_a_difficulty_file_ranks_clusters_by_their_mean(tmp_path):
    path = str(tmp_path / "curve.json")
    curve = DifficultyCurve(
        kind="convergence", data="d", process="p", u=(0, 0.2, 0.4, 0.6, 0.8, 1), difficulty=(1, 5, 3, 4, 2)
    )
    curve.to_file(path)
    assert order(SortedOrder(direction="easy_to_hard", by=path)) == (0, 4, 2, 3, 1)
    assert order(SortedOrder(direction="hard_to_easy", by=path)) == (1, 3, 2, 4, 0)


def test_a_difficulty_file_is_read_at_the_noise_levels_of_the_clusters(tmp_path):
    # Under Beta(0.1, 1) nearly all of u stands for the cleanest times, where this curve is easiest.
    path = str(tmp_path / "curve.json")
    DifficultyCurve(kind="loss", data="d", process="p", u=(0, 0.01, 1), difficulty=(0.0, 1.0)).to_file(path)
    assert order(SortedOrder(direction="easy_to_hard", by=path), 5, Beta(alpha=0.1))[-1] == 4


def test_of_equally_difficult_clusters_the_noisier_is_easier(tmp_path):
    path = str(tmp_path / "curve.json")
    DifficultyCurve(kind="loss", data="d", process="p", u=(0, 1), difficulty=(1.0,)).to_file(path)
    assert order(SortedOrder(direction="easy_to_hard", by=path)) == (4, 3, 2, 1, 0)


@pytest.mark.parametrize("ranking", [(0, 1, 2, 3), (0, 1, 2, 3, 3), (1, 2, 3, 4, 5)])
def test_a_written_order_must_hold_each_cluster_once(ranking):
    with pytest.raises(ConfigError, match=r"order\.ranking must hold each cluster 0\.\.4 once"):
        order(ExplicitOrder(ranking=ranking))


@pytest.mark.parametrize(
    "settings",
    [
        {"direction": "easy_to_hard", "seed": 1},
        {"direction": "random", "by": "noise_level"},
        {"direction": "none", "by": "noise_level"},
        {"direction": "explicit", "ranking": [0], "seed": 1},
    ],
)
def test_settings_that_do_not_apply_are_refused(settings):
    with pytest.raises(ConfigError, match="not a known key"):
        CurriculumSchedule.from_dict({"version": 1, "order": settings})
