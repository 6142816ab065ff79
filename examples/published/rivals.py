"""Rivals of a curriculum: SpeeD's density and weights, importance sampling, and a base that changes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats

from curriculum_ray.curriculum.base import Changing, LogitNormal, Speed, Uniform
from curriculum_ray.curriculum.cells import boundaries
from curriculum_ray.curriculum.importance import GradientNorm, Importance, LossSecondMoment
from curriculum_ray.curriculum.level_draws import LevelDraws
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes
from published import Check, row

NOISE = 1 - np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
LINEAR = DiscreteTimesteps(torch.from_numpy(1 - NOISE))
PLACES = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000


def with_partners(own: np.ndarray) -> np.ndarray:
    """The density of draws from `own` and of their partners, half and half, timestep by timestep."""
    end = int(np.argmax(np.gradient(np.sqrt(NOISE)) < 1e-4)) + 1
    both = np.zeros(1000)
    for t, density in enumerate(own / own.sum()):
        both[t] += density / 2
        both[end - t if t < end else t - end] += density / 2
    return both


def speed() -> Iterator[Check]:
    """Wang et al. 2024, as released."""
    source = "Wang et al. 2024, released code"
    asked = with_partners(np.where(np.arange(1000) < 700, 5.0, 1.0))
    drawn = boundaries(Speed(), LINEAR).diff().numpy()
    yield row("SpeeD, density of the timesteps", source, drawn, asked, 1e-9)
    ratios = [density[:700].mean() / density[700:].mean() for density in (drawn, asked)]
    yield row("SpeeD, density below 700 beside above", source, ratios[0], ratios[1], 1e-9)
    first = with_partners(1.5 + np.tanh(1e6 * (np.gradient(np.sqrt(NOISE)) - 1e-4)))
    yield row("SpeeD, first release", source, boundaries(Speed(tau=None), LINEAR).diff(), first, 1e-6)
    growth = np.gradient(NOISE)
    weights = 0.4 + 0.2 * (growth - growth.min()) / (growth.max() - growth.min())
    weights[700:] = 1
    ours = Speed().loss_weights(LINEAR)
    assert ours is not None
    yield row("SpeeD, change-aware weights", source, ours, weights, 1e-9)


def importance() -> Iterator[Check]:
    """Nichol & Dhariwal 2021, by their resampler's rule; the gradient by autograd."""
    generator = np.random.default_rng(0)
    losses = generator.exponential(size=(20, 10))
    history = tuple(tuple(each) for each in np.square(losses).tolist())
    ratios = Importance(LossSecondMoment(bins=20)).ratios(history, [True] * 20)
    assert ratios is not None
    roots = np.sqrt((losses**2).mean(1))
    asked = roots / roots.sum() * (1 - 0.001) + 0.001 / 20
    source = "Nichol & Dhariwal 2021, Eq. 18"
    yield row("loss second moment, probabilities", source, np.array(ratios) / 20, asked)
    draws = LevelDraws(Uniform(), FlowTimes(), torch.tensor([0.0, 1.0], dtype=torch.float64), bins=20)
    draws.aim([1.0], ratios)
    drawn = draws.draw(PLACES, 0)
    assert drawn.weights is not None
    place = (drawn.u * 20).long().numpy()
    yield row("loss second moment, weights 1/(K p)", source, drawn.weights, 1 / (20 * asked[place]), 1e-6)
    counts = np.bincount(place, minlength=20) / len(place)
    yield row("loss second moment, draws", source, counts, asked, 1e-3)
    output = torch.tensor(generator.normal(size=(8, 5)), requires_grad=True)
    weight = torch.tensor(generator.random(8))
    raw = output.square().mean(1)
    (weight * raw).sum().backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    squares = GradientNorm().squares(raw.detach(), (weight * raw).detach())
    source = "Katharopoulos & Fleuret 2018, §3.2"
    yield row("gradient norm, squared, times D/4", source, squares, output.grad.square().sum(1) * 5 / 4)


def changing() -> Iterator[Check]:
    """A blend, within an active half."""
    base = Changing(first=LogitNormal(), then=Uniform(), at_images=0, blend_images=10)
    draws = LevelDraws(base, FlowTimes(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    draws.aim([0.0, 1.0])
    levels = np.sort(draws.draw(PLACES, 3).levels.double().numpy())
    times = np.linspace(0.55, 0.95, 9)
    below = [0.7 * (stats.norm.cdf(math.log(t / (1 - t))) - 0.5) + 0.3 * (t - 0.5) for t in times]
    ours = np.searchsorted(levels, times) / len(levels)
    yield row("blend at 0.3, upper half active", "Sun 2026; mixture of F", ours, np.array(below) / 0.5, 1e-4)


def checks() -> Iterator[Check]:
    """All of them."""
    yield from speed()
    yield from importance()
    yield from changing()
