"""Draws from blends, pairs and importance: their densities and weights beside independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import (
    EDM,
    Changing,
    LaplaceLogSnr,
    LogitNormal,
    LogNormalSigma,
    Speed,
    Uniform,
)
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.curriculum.level_draws import LevelDraws
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, Sigmas

QUARTERS = torch.linspace(0, 1, 5, dtype=torch.float64)
BLEND = Changing(first=LogitNormal(mean=-0.5), then=Uniform(), at_images=1000, blend_images=1000)
LINEAR = DiscreteTimesteps((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))


def places(count: int = 400_000) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def logit_normal_density(t: float) -> float:
    return stats.norm.pdf(math.log(t / (1 - t)), -0.5, 1.0) / (t * (1 - t))


@pytest.mark.parametrize(
    ("images", "share"), [(0, 0.0), (999, 0.0), (1250, 0.25), (1999, 0.999), (2000, 1.0), (9000, 1.0)]
)
def test_a_blend_has_the_density_of_the_mixture(images, share):
    draws = LevelDraws(BLEND, FlowTimes(), QUARTERS)
    assert draws.share(images) == pytest.approx(share)
    levels = np.sort(draws.draw(places(), images).levels.double().numpy())
    for t in np.linspace(0.02, 0.98, 25):
        cdf = (1 - share) * stats.norm.cdf(math.log(t / (1 - t)), -0.5, 1.0) + share * t
        assert np.searchsorted(levels, t) / len(levels) == pytest.approx(cdf, abs=2e-5)


@pytest.mark.parametrize("images", [0, 1500, 5000])
@pytest.mark.parametrize("densities", [[0.0, 0.0, 0.0, 1.0], [0.2, 1.0, 0.2, 3.0]])
def test_clusters_stay_the_same_noise_levels_when_the_base_changes(images, densities):
    draws = LevelDraws(BLEND, FlowTimes(), QUARTERS)
    draws.aim(densities)
    drawn = draws.draw(places(), images)
    # The clusters as times, by the first distribution alone.
    borders = [0.0, *(1 / (1 + np.exp(0.5 - stats.norm.ppf([0.25, 0.5, 0.75])))), 1.0]
    share = min(max((images - 1000) / 1000, 0), 1)
    mass = [
        density * ((1 - share) * 0.25 + share * (b - a))
        for a, b, density in zip(borders, borders[1:], densities, strict=False)
    ]
    counts = np.histogram(drawn.levels.double().numpy(), borders)[0]
    assert counts / counts.sum() == pytest.approx(np.array(mass) / sum(mass), abs=2e-5)
    # The u that is reported is the first distribution's, and lies in the cluster of the level.
    assert np.array_equal(np.histogram(drawn.u.numpy(), QUARTERS.numpy())[0], counts)
    # At the very ends the first distribution's u has no digits left to tell levels apart; those drawn are exact.
    near = (drawn.levels > 0.001) & (drawn.levels < 0.99)
    back = level_of(LogitNormal(mean=-0.5), drawn.u, FlowTimes()).float()
    assert torch.allclose(back[near], drawn.levels[near], atol=1e-6)


def test_a_mixture_within_an_active_part_keeps_its_inner_density():
    draws = LevelDraws(BLEND, FlowTimes(), QUARTERS)
    draws.aim([0.0, 1.0, 0.0, 0.0])
    levels = draws.draw(places(), 1400).levels.double().numpy()
    low, high = 1 / (1 + np.exp(0.5 - stats.norm.ppf([0.25, 0.5])))

    def density(t: float) -> float:
        return 0.6 * logit_normal_density(t) + 0.4

    whole = integrate.quad(density, low, high)[0]
    for t in np.linspace(low, high, 9)[1:-1]:
        assert (levels < t).mean() == pytest.approx(integrate.quad(density, low, t)[0] / whole, abs=3e-5)


@pytest.mark.parametrize(
    ("base", "levels"),
    [
        (Changing(first=Uniform(), then=LaplaceLogSnr(scale=2.0), at_images=10, blend_images=10), LINEAR),
        (
            Changing(first=EDM, then=LogNormalSigma(mean=0.5, std=0.7), at_images=10, blend_images=10),
            Sigmas(),
        ),
        (Changing(first=Uniform(), then=Speed(), at_images=10, blend_images=10), LINEAR),
    ],
)
def test_other_processes_blend_alike(base, levels):
    draws = LevelDraws(base, levels, QUARTERS)
    first, then = (level_of(each, places(), levels).double() for each in (base.first, base.then))
    mixed = draws.draw(places(), 13).levels.double()
    for level in torch.quantile(torch.cat([first, then])[::7], torch.linspace(0.05, 0.95, 10).double()):
        expected = 0.7 * (first <= level).double().mean() + 0.3 * (then <= level).double().mean()
        assert float((mixed <= level).double().mean()) == pytest.approx(float(expected), abs=1e-3)


def test_a_step_changes_between_two_images():
    draws = LevelDraws(Changing(at_share=0.5), FlowTimes(), QUARTERS, total_images=1000)
    assert [draws.share(images) for images in (0, 499, 500, 1000)] == [0, 0, 1, 1]
    assert torch.equal(draws.draw(places(100), 500).levels, places(100).float())
    with pytest.raises(ConfigError, match="pass total_images"):
        LevelDraws(Changing(at_share=0.5), FlowTimes(), QUARTERS)


def test_a_distribution_that_never_draws_a_cluster_is_refused_by_its_name():
    base = Changing(first=Uniform(), then=LaplaceLogSnr(loc=-4.0, scale=0.05), at_images=1)
    with pytest.raises(ConfigError, match="laplace_logsnr never draws the noise levels of cluster 0 of 4"):
        LevelDraws(base, LINEAR, QUARTERS)


def test_levels_that_the_first_distribution_never_draws_join_a_cluster_with_the_right_weight():
    # Two narrow distributions on few timesteps: the ends are the second one's alone.
    base = Changing(first=LaplaceLogSnr(scale=0.2), then=Uniform(), at_images=1)
    levels = DiscreteTimesteps(torch.linspace(0.99, 0.01, 40, dtype=torch.float64))
    draws = LevelDraws(base, levels, torch.linspace(0, 1, 3, dtype=torch.float64), bins=10)
    assert torch.bincount(draws.draw(places(), 1).levels, minlength=40).min() == 10_000
    draws.aim([1.0, 1.0], [1.0 + b for b in range(10)])
    drawn = draws.draw(places(), 1)
    sums = torch.zeros(40).index_add_(0, drawn.levels, drawn.weights)
    assert torch.allclose(sums / sums.sum(), torch.full((40,), 1 / 40), atol=1e-4)


@pytest.mark.parametrize(("base", "images"), [(Uniform(), 0), (BLEND, 0), (BLEND, 1300), (BLEND, 2000)])
@pytest.mark.parametrize("densities", [[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.3]])
def test_importance_draws_in_proportion_and_weighs_by_the_inverse(base, images, densities):
    importance = [0.1 + (b % 7) for b in range(50)]
    plain, draws = (LevelDraws(base, FlowTimes(), QUARTERS, bins=bins) for bins in (1, 50))
    plain.aim(densities)
    draws.aim(densities, importance)
    before, after = plain.draw(places(), images), draws.draw(places(), images)
    assert before.weights is None
    edges = np.linspace(0, 1, 51)
    mass = np.histogram(before.u.numpy(), edges)[0] / 400_000
    expected = mass * importance / np.sum(mass * importance)
    assert np.histogram(after.u.numpy(), edges)[0] / 400_000 == pytest.approx(expected, abs=1e-4)
    # Weighted means of any function of the level are those of the plain draws.
    assert float(after.weights.mean()) == pytest.approx(1, abs=1e-3)
    for power in (1, 2, 5):
        weighted = (after.weights * after.levels**power).mean()
        assert float(weighted) == pytest.approx(float((before.levels**power).mean()), abs=1e-3)


def test_the_density_is_that_of_the_draws():
    draws = LevelDraws(BLEND, FlowTimes(), QUARTERS, bins=20)
    grid = torch.linspace(0, 1, 31, dtype=torch.float64)
    for images, importance in ((0, None), (1500, None), (1500, [1.0 + b % 3 for b in range(20)])):
        draws.aim([0.1, 1.0, 0.0, 1.0], importance)
        counts = np.histogram(draws.draw(places(), images).u.numpy(), grid.numpy())[0]
        assert draws.density(grid, images).numpy() == pytest.approx(counts * 30 / 400_000, abs=2e-3)


def test_speed_draws_pairs_and_gives_each_its_weight():
    draws = LevelDraws(Speed(), LINEAR, torch.tensor([0.0, 1.0], dtype=torch.float64))
    for offset in (0.0023, 0.37, 0.9017):
        drawn = draws.draw(((torch.arange(64) / 64).double() + offset).frac(), 0)
        # Which of the two of a pair was drawn from p turns at the place 1/2.
        turned = ((torch.arange(32) / 64).double() + offset).frac() >= 0.5
        first, second = (
            torch.where(turned, drawn.levels[32:], drawn.levels[:32]),
            torch.where(turned, drawn.levels[:32], drawn.levels[32:]),
        )
        assert torch.equal((642 - first).abs(), second)
        assert torch.equal(drawn.weights, Speed().loss_weights(LINEAR).float()[drawn.levels])


def test_pairs_leave_the_density_as_it_is_and_end_where_only_a_part_is_active():
    draws = LevelDraws(Speed(), LINEAR, QUARTERS)
    counts = torch.bincount(draws.draw(places(), 0).levels, minlength=1000)
    plain = torch.bincount(level_of(Speed(), places(), LINEAR), minlength=1000)
    assert (counts - plain).abs().max() <= 3
    draws.aim([0.0, 0.0, 0.0, 1.0])
    u = draws.draw(places(1000), 0).u
    assert bool((u.diff() > 0).all())
    assert float(u.min()) >= 0.75
