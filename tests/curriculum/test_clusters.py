"""Clusters: exact covers of [0, 1), whole timesteps, and the boundaries that their definitions ask for."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import (
    EDM,
    Asymmetric,
    Beta,
    CosMap,
    CurriculumSchedule,
    CurveClusters,
    DifficultyCurve,
    ExplicitClusters,
    GradientClusters,
    LaplaceLogSnr,
    LogitNormal,
    LogSnrClusters,
    Mode,
    Shifted,
    TimestepSampler,
    Uniform,
    UniformClusters,
    cluster_edges,
)
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.curriculum.cells import UncalibratedTimesteps, boundaries, translate
from curriculum_ray.curriculum.intervals import (
    absolute_deviation,
    best_intervals,
    direction_spread,
    snap,
    spread,
)
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, Sigmas


def linear(count: int = 1000) -> DiscreteTimesteps:
    betas = torch.linspace(1e-4, 0.02, count, dtype=torch.float64)
    return DiscreteTimesteps((1 - betas).cumprod(0))


def cosine(count: int = 1000) -> DiscreteTimesteps:
    """Nichol & Dhariwal 2021, eq. 17, betas clipped at 0.999."""
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    curve = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return DiscreteTimesteps((1 - (1 - curve[1:] / curve[:-1]).clamp(max=0.999)).cumprod(0))


def zero_terminal_snr(count: int = 1000) -> DiscreteTimesteps:
    """Lin et al. 2024, algorithm 1: the last signal-to-noise ratio is exactly 0."""
    roots = linear(count).alphas_cumprod.sqrt()
    return DiscreteTimesteps(((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2)


TIME_BASES = [
    Uniform(),
    LogitNormal(mean=-0.5),
    Mode(),
    Beta(),
    Asymmetric(),
    CosMap(),
    Shifted(of=LogitNormal()),
]
NOISE_BASES = [EDM, LaplaceLogSnr(scale=2.0)]
# Rounding of the quantile functions, in u.
ROUNDING = 1e-12
PROCESSES = [
    *(
        (base, levels)
        for base in TIME_BASES
        for levels in (UncalibratedTimesteps(40), linear(60), FlowTimes())
    ),
    *((base, levels) for base in NOISE_BASES for levels in (linear(60), FlowTimes(), Sigmas())),
]


def assert_covers(edges: torch.Tensor, count: int) -> None:
    assert edges.dtype == torch.float64
    assert len(edges) == count + 1
    assert edges[0] == 0.0
    assert edges[-1] == 1.0
    assert bool((edges.diff() > 0).all())


@st.composite
def cluster_specs(draw):
    count = draw(st.integers(1, 12))
    by = draw(st.sampled_from(["uniform", "log_snr", "log_snr_dp", "explicit"]))
    if by == "uniform":
        return UniformClusters(count=count)
    if by == "explicit":
        inner = draw(st.lists(st.floats(0.001, 0.999), min_size=count - 1, max_size=count - 1, unique=True))
        return ExplicitClusters(edges=(0.0, *sorted(inner), 1.0))
    return LogSnrClusters(by=by, count=count)


@settings(deadline=None, max_examples=150)
@given(spec=cluster_specs(), process=st.sampled_from(PROCESSES))
def test_clusters_cover_the_unit_interval_exactly(spec, process):
    base, levels = process
    if isinstance(levels, UncalibratedTimesteps) and isinstance(spec, LogSnrClusters):
        with pytest.raises(ConfigError, match="alphas_cumprod"):
            cluster_edges(spec, base, levels)
        return
    assert_covers(cluster_edges(spec, base, levels), spec.count)


@settings(deadline=None, max_examples=100)
@given(spec=cluster_specs(), process=st.sampled_from([p for p in PROCESSES if p[1].count]))
def test_each_timestep_belongs_to_exactly_one_cluster(spec, process):
    base, levels = process
    if isinstance(levels, UncalibratedTimesteps) and isinstance(spec, LogSnrClusters):
        return
    edges = cluster_edges(spec, base, levels)
    cells = boundaries(base, levels)
    assert bool(torch.isin(edges, cells).all())
    for low, high in itertools.pairwise(edges.tolist()):
        ends = (low + ROUNDING, high - ROUNDING, min(high + ROUNDING, 1 - ROUNDING))
        first, last, beyond = level_of(base, torch.tensor(ends, dtype=torch.float64), levels).tolist()
        assert first <= last
        assert high == 1.0 or beyond > last


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(0, 100), min_size=1, max_size=30).filter(lambda v: sum(v) > 1e-6),
    count=st.integers(1, 30),
    process=st.sampled_from(PROCESSES),
)
def test_clusters_from_a_curve_cover_the_unit_interval_exactly(tmp_path_factory, values, count, process):
    base, levels = process
    path = tmp_path_factory.mktemp("curve") / "curve.json"
    u = [i / len(values) for i in range(len(values) + 1)]
    own = base if base in NOISE_BASES else Uniform()
    DifficultyCurve(kind="loss", data="d", process="p", base=own, u=u, difficulty=values).to_file(path)
    if isinstance(levels, UncalibratedTimesteps) and own in NOISE_BASES:
        return
    assert_covers(
        cluster_edges(CurveClusters(by="loss", difficulty=str(path), count=count), base, levels), count
    )


@pytest.mark.parametrize("count", [1, 4, 20, 1000])
def test_uniform_clusters_hold_equally_many_timesteps(count):
    edges = cluster_edges(UniformClusters(count=count), Uniform(), UncalibratedTimesteps(1000))
    assert torch.allclose(edges, torch.arange(count + 1).double() / count, atol=1e-15)


def test_uniform_clusters_of_continuous_levels_are_exact_shares():
    edges = cluster_edges(UniformClusters(count=7), LogitNormal(), FlowTimes())
    assert edges.tolist() == [i / 7 for i in range(8)]


def test_more_clusters_than_timesteps_are_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"clusters\.count must be at most the 10 timesteps .*, but got 11"):
        cluster_edges(UniformClusters(count=11), Uniform(), UncalibratedTimesteps(10))
    assert_covers(cluster_edges(UniformClusters(count=10), Uniform(), UncalibratedTimesteps(10)), 10)


@pytest.mark.parametrize(
    "levels", [linear(), cosine(), zero_terminal_snr()], ids=["linear", "cosine", "zero"]
)
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_equal_width_clusters_have_equal_width_in_log_snr_between_the_quantiles(levels, count):
    """Between the log-SNR of u = 0.005 and u = 0.995; the first and the last cluster take what lies beyond."""
    edges = cluster_edges(LogSnrClusters(by="log_snr", count=count), Uniform(), levels)
    log_snr = levels.log_snr(torch.arange(1000))
    starts = (edges[1:-1] * 1000).round().long()
    bounds = log_snr[5] + (log_snr[995] - log_snr[5]) * torch.arange(1, count) / count
    assert bool((log_snr[starts] <= bounds).all())
    assert bool((log_snr[starts - 1] >= bounds).all())


def test_clusters_that_would_be_narrower_than_a_tenth_of_their_share_alone_leave_the_equal_width():
    levels = cosine()
    edges = cluster_edges(LogSnrClusters(by="log_snr", count=30), Uniform(), levels)
    starts = (edges * 1000).round().long()
    log_snr = levels.log_snr(torch.arange(1000))
    bounds = log_snr[5] + (log_snr[995] - log_snr[5]) * torch.arange(1, 30) / 30
    equal = torch.searchsorted(-log_snr, -bounds, right=True)
    assert int(starts.diff().min()) == math.ceil(1000 / 300)
    # Most edges are where equal width puts them, and the others lie at the ends.
    moved = (starts[1:-1] != equal).nonzero().flatten().tolist()
    assert moved
    assert all(place < 3 or place > 22 for place in moved)


def test_equal_width_clusters_of_sigmas_are_even_in_log_sigma_between_the_tails():
    edges = cluster_edges(LogSnrClusters(by="log_snr", count=5), EDM, Sigmas())
    inner = EDM.quantile(edges[1:-1]).log()
    width = 2 * 1.2 * 2.5758 / 5  # of ln sigma ~ N(-1.2, 1.2²) between its 0.5% and 99.5% quantiles
    assert inner.diff().tolist() == pytest.approx([width] * 3, rel=0.02)


def test_the_last_clipped_beta_is_no_cluster_of_its_own():
    for by, count in itertools.product(("log_snr", "log_snr_dp"), (5, 20, 30)):
        edges = cluster_edges(LogSnrClusters(by=by, count=count), Uniform(), cosine())
        assert round((1 - float(edges[-2])) * 1000) >= 4


# For linear betas 152, 392, 622, 821, 999 costs 781.7436 in all, this optimum 781.7405.
@pytest.mark.parametrize(
    ("levels", "ends"), [(linear(), [152, 393, 623, 822, 999]), (cosine(), [132, 371, 652, 880, 999])]
)
def test_ant_clusters_end_where_they_should(levels, ends):
    edges = cluster_edges(LogSnrClusters(by="log_snr_dp", count=5), Uniform(), levels)
    assert ((edges[1:] * 1000).round().long() - 1).tolist() == ends


def test_a_terminal_snr_of_zero_gives_the_clusters_of_its_neighbour():
    levels = zero_terminal_snr()
    assert not bool(levels.log_snr(torch.tensor([999])).isfinite())
    for by in ("log_snr", "log_snr_dp"):
        edges = cluster_edges(LogSnrClusters(by=by, count=5), Uniform(), levels)
        assert_covers(edges, 5)
        assert edges[-2] < 0.999


def brute_force(cost: torch.Tensor, count: int) -> float:
    n = len(cost)
    totals = []
    for inner in itertools.combinations(range(1, n), count - 1):
        edges = [0, *inner, n]
        totals.append(sum(float(cost[a, b - 1]) for a, b in itertools.pairwise(edges)))
    return min(totals)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=9), count=st.integers(1, 9))
def test_dynamic_programming_finds_the_least_cost_of_all_cuts(values, count):
    x = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    count = min(count, len(x))
    cost = absolute_deviation(x)
    edges = best_intervals(cost, count).tolist()
    assert edges[0] == 0
    assert edges[-1] == len(x)
    assert all(a < b for a, b in itertools.pairwise(edges))
    total = sum(float(cost[a, b - 1]) for a, b in itertools.pairwise(edges))
    assert total == pytest.approx(brute_force(cost, count), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_cost_of_an_interval_is_its_absolute_deviation_from_the_median(values):
    x = torch.tensor(sorted(values), dtype=torch.float64)
    cost = absolute_deviation(x)
    for left in range(len(x)):
        assert cost[left, left] == 0.0
        for right in range(left, len(x)):
            part = x[left : right + 1]
            least = (part[None] - part[:, None]).abs().sum(1).min()
            assert float(cost[left, right]) == pytest.approx(float(least), abs=1e-9)


def test_the_cost_of_directions_is_their_spread_about_the_mean():
    vectors = torch.nn.functional.normalize(
        torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double()
    )
    weights = torch.rand(8, generator=torch.Generator().manual_seed(1)).double() + 0.1
    cost = direction_spread(vectors @ vectors.T, weights)
    for left in range(8):
        for right in range(left, 8):
            part, w = vectors[left : right + 1], weights[left : right + 1, None]
            mean = (w * part).sum(0) / w.sum()
            assert float(cost[left, right]) == pytest.approx(float((w * (part - mean) ** 2).sum()), abs=1e-9)


def test_gradient_clusters_part_where_the_gradients_turn(tmp_path):
    block = torch.eye(3).repeat_interleave(torch.tensor([2, 5, 3]), 0)
    similarity = (block @ block.T).tolist()
    u = [i / 10 for i in range(11)]
    curve = DifficultyCurve(
        kind="gradient", data="d", process="p", u=u, difficulty=[1.0] * 10, similarity=similarity
    )
    curve.to_file(tmp_path / "curve.json")
    spec = GradientClusters(difficulty=str(tmp_path / "curve.json"), count=3)
    edges = cluster_edges(spec, Uniform(), UncalibratedTimesteps(1000))
    assert edges.tolist() == pytest.approx([0, 0.2, 0.7, 1.0])
    with pytest.raises(ConfigError, match="at most 10, the bins of"):
        cluster_edges(GradientClusters(difficulty=spec.difficulty, count=11), Uniform(), FlowTimes())


def test_curve_clusters_hold_equal_shares_of_the_cumulative_difficulty(tmp_path):
    path = str(tmp_path / "curve.json")
    u, difficulty = [i / 100 for i in range(101)], [1 / (i + 10) for i in range(100)]
    curve = DifficultyCurve(kind="relative_entropy", data="d", process="p", u=u, difficulty=difficulty)
    curve.to_file(path)
    edges = cluster_edges(
        CurveClusters(by="relative_entropy", difficulty=path, count=4), Uniform(), FlowTimes()
    )
    shares = [curve.mean_over(a, b) * (b - a) for a, b in itertools.pairwise(edges.tolist())]
    assert shares == pytest.approx([sum(difficulty) / 400] * 4, rel=1e-6)


def test_a_steep_curve_leaves_each_cluster_a_tenth_of_its_even_share(tmp_path):
    """The relative entropy of digits falls from 7 nats at t = 1 to 1e-4: equal shares would be single timesteps."""
    path = str(tmp_path / "curve.json")
    u, difficulty = [i / 1000 for i in range(1001)], [(i + 1) ** -1.5 for i in range(1000)]
    DifficultyCurve(kind="relative_entropy", data="d", process="p", u=u, difficulty=difficulty).to_file(path)
    spec = CurveClusters(by="relative_entropy", difficulty=path, count=20)
    for levels in (linear(), FlowTimes()):
        widths = cluster_edges(spec, Uniform(), levels).diff()
        assert float(widths.min()) == pytest.approx(0.005, abs=1e-9)
        assert float(widths[-1]) > 0.5


@settings(deadline=None, max_examples=150)
@given(spec=cluster_specs(), process=st.sampled_from(PROCESSES))
def test_no_cluster_is_narrower_than_a_tenth_of_its_even_share_unless_its_edges_are_written(spec, process):
    base, levels = process
    if isinstance(levels, UncalibratedTimesteps) and isinstance(spec, LogSnrClusters):
        return
    widths = cluster_edges(spec, base, levels).diff()
    if isinstance(spec, ExplicitClusters):
        return
    cells = boundaries(base, levels).unique().diff() if levels.count else torch.zeros(1)
    # Cells that are coarse and uneven may leave no room for it.
    if float(cells.max()) < 0.1 / spec.count:
        assert float(widths.min()) >= 0.1 / spec.count - 1e-9


def test_a_curve_in_another_u_is_translated_to_the_same_noise_levels(tmp_path):
    path = str(tmp_path / "curve.json")
    curve = DifficultyCurve(kind="loss", data="d", process="p", u=(0, 0.5, 1), difficulty=(1.0, 1.0))
    curve.to_file(path)
    base = LogitNormal(mean=-0.5)
    edges = cluster_edges(CurveClusters(by="loss", difficulty=path, count=4), base, FlowTimes())
    assert base.quantile(edges[1:-1]).tolist() == pytest.approx([0.25, 0.5, 0.75])


def test_a_curve_over_times_does_not_apply_to_sigmas(tmp_path):
    path = str(tmp_path / "curve.json")
    DifficultyCurve(kind="loss", data="d", process="p", u=(0, 0.5, 1), difficulty=(2.0, 1.0)).to_file(path)
    by_curve = {"by": "loss", "difficulty": path, "count": 4}
    for groups in ({"clusters": by_curve}, {"order": {"direction": "easy_to_hard", "by": path}}):
        schedule = CurriculumSchedule.from_dict(
            {
                "base": {"kind": "log_normal_sigma"},
                "clusters": {"by": "uniform", "count": 4},
                "order": {"direction": "easy_to_hard"},
                "pacing": {"rule": "fixed", "stage_images": 64},
                **groups,
            }
        )
        with pytest.raises(ConfigError, match=f"^{path}: its base uniform does not apply to sigma levels: "):
            TimestepSampler(schedule, sigma=True)


def test_translation_there_and_back_is_the_identity():
    u = torch.linspace(0, 1, 201, dtype=torch.float64)
    for levels in (linear(50), FlowTimes()):
        there = translate(u, Uniform(), Beta(alpha=0.5), levels)
        assert torch.allclose(translate(there, Beta(alpha=0.5), Uniform(), levels), u, atol=1e-12)


def test_a_curve_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "curve.json"
    DifficultyCurve(kind="loss", data="d", process="p", u=(0, 1), difficulty=(1.0,)).to_file(path)
    for spec in (
        CurveClusters(by="relative_entropy", difficulty=str(path)),
        GradientClusters(difficulty=str(path)),
    ):
        with pytest.raises(ConfigError, match=r"clusters\.by must be the kind of .*, loss, but got"):
            cluster_edges(spec, Uniform(), FlowTimes())
    with pytest.raises(ConfigError, match="does not exist"):
        cluster_edges(CurveClusters(by="loss", difficulty=str(tmp_path / "no.json")), Uniform(), FlowTimes())


@pytest.mark.parametrize("edges", [(0.0, 0.5), (0.1, 1.0), (0.0, 0.6, 0.5, 1.0), (0.0, 0.5, 0.5, 1.0)])
def test_written_edges_must_rise_from_0_to_1(edges):
    with pytest.raises(ValueError, match="edges must rise strictly from 0 to 1"):
        ExplicitClusters(edges=edges)


@settings(deadline=None)
@given(
    inner=st.lists(st.floats(0, 1), max_size=20),
    cells=st.integers(21, 60),
    share=st.floats(0, 1),
)
def test_snapping_keeps_every_interval_and_moves_no_edge_that_has_room(inner, cells, share):
    grid = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    targets = torch.tensor([0.0, *sorted(inner), 1.0], dtype=torch.float64)
    count = len(targets) - 1
    assert_covers(snap(targets, grid), count)
    # Whole cells that fit.
    least = math.floor(share * (cells // count)) / cells
    edges = snap(targets, grid, least)
    assert_covers(edges, count)
    assert float(edges.diff().min()) >= least - 1e-9
    assert torch.equal(snap(edges, grid, least), edges)
    assert_covers(spread(targets), count)
    apart = spread(targets, share / count)
    assert float(apart.diff().min()) >= share / count - 1e-12
    torch.testing.assert_close(spread(apart, share / count), apart, rtol=0, atol=1e-12)


def test_a_grid_too_coarse_for_the_width_keeps_one_cell_for_each_interval():
    grid = torch.tensor([0.0, 0.01, 0.5, 0.99, 1.0], dtype=torch.float64)
    targets = torch.linspace(0, 1, 5, dtype=torch.float64)
    assert torch.equal(snap(targets, grid, 0.1), grid)


@pytest.mark.parametrize("base", [*TIME_BASES, *NOISE_BASES])
def test_cells_agree_with_the_process(base):
    levels = linear(200)
    cells = boundaries(base, levels)
    assert bool((cells.diff() >= 0).all())
    used = (cells.diff() > 2 * ROUNDING).nonzero().flatten()
    assert torch.equal(level_of(base, cells[used] + ROUNDING, levels), used)
    assert torch.equal(level_of(base, cells[used + 1] - ROUNDING, levels), used)


@pytest.mark.parametrize("by", ["log_snr", "log_snr_dp"])
def test_a_base_without_a_range_of_log_snr_is_not_cut_by_it(by):
    spec = LogSnrClusters(by=by, count=3)
    for mean in (40.0, 60.0):  # one level, and none, whose log-SNR is finite
        with pytest.raises(ConfigError, match="clusters by log_snr need"):
            cluster_edges(spec, LogitNormal(mean=mean), FlowTimes())
