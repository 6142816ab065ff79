"""Draws: stratified, spread over ranks without loss, and exactly the truncated distribution."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from curriculum_ray.curriculum.draws import ActiveMap, offset, positions


@given(batch=st.integers(1, 40), parts=st.integers(1, 8))
def test_the_parts_of_a_batch_hold_each_place_once(batch, parts):
    union = torch.cat([positions(batch, part, parts) for part in range(parts)])
    assert torch.equal(union.sort().values, positions(batch * parts, 0, 1))


def test_offsets_are_uniform_and_differ_by_seed_and_images():
    values = [offset(seed, images) for seed in range(20) for images in range(0, 64_000, 128)]
    assert len(set(values)) == len(values)
    assert stats.kstest(values, "uniform").pvalue > 0.001
    assert all(0 <= value < 1 for value in values)


def test_offsets_of_neighbouring_steps_are_not_correlated():
    values = torch.tensor([offset(0, images) for images in range(0, 2_000_000, 128)])
    correlation = torch.corrcoef(torch.stack([values[1:], values[:-1]]))[0, 1]
    assert abs(float(correlation)) < 4 / len(values) ** 0.5


@st.composite
def active_sets(draw):
    count = draw(st.integers(1, 8))
    inner = draw(st.lists(st.floats(0.01, 0.99), min_size=count - 1, max_size=count - 1, unique=True))
    densities = draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0]), min_size=count, max_size=count))
    assume(max(densities) > 0)
    return [0.0, *sorted(inner), 1.0], densities


@given(active=active_sets())
def test_the_map_is_the_inverse_of_the_truncated_renormalised_distribution(active):
    edges, densities = active
    u01 = torch.arange(20_000, dtype=torch.float64) / 20_000
    u = ActiveMap(edges, densities)(u01.clone())
    masses = torch.tensor(
        [d * (b - a) for a, b, d in zip(edges, edges[1:], densities, strict=False)]
    ).double()
    cumulative = torch.cat([torch.zeros(1).double(), masses.cumsum(0)]) / masses.sum()
    edge = torch.tensor(edges, dtype=torch.float64)
    cluster = torch.searchsorted(edge, u, right=True) - 1
    density = torch.tensor(densities).double()[cluster]
    assert bool((density > 0).all())
    back = cumulative[cluster] + (u - edge[cluster]) * density / masses.sum()
    assert torch.allclose(back, u01, atol=1e-9)
    assert bool((u.diff() >= 0).all())


@given(active=active_sets())
def test_each_cluster_gets_its_share_of_a_stratified_batch_to_within_one_sample(active):
    edges, densities = active
    batch = 500
    u = ActiveMap(edges, densities)((positions(batch, 0, 1) + offset(1, 2)).frac())
    counts = torch.histogram(u, torch.tensor(edges, dtype=torch.float64)).hist
    masses = torch.tensor(
        [d * (b - a) for a, b, d in zip(edges, edges[1:], densities, strict=False)]
    ).double()
    assert bool(((counts - batch * masses / masses.sum()).abs() <= 1 + 1e-6).all())


@given(active=active_sets())
def test_no_draw_leaves_the_active_intervals_even_at_the_last_number_below_one(active):
    edges, densities = active
    mapping = ActiveMap(edges, densities)
    u = mapping(torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64))
    assert mapping.intervals[0][0] <= float(u[0])
    assert float(u[1]) < mapping.intervals[-1][1]


def test_neighbours_of_one_density_are_one_interval():
    assert ActiveMap([0, 0.25, 0.5, 0.75, 1], [0, 1, 1, 0.5]).intervals == [(0.25, 0.75, 1), (0.75, 1, 0.5)]
