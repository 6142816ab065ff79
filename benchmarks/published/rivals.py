"""Rivals that are more than a quantile function: SpeeD, bases that change over training, importance sampling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.curriculum.base import Speed
from curriculum_ray.curriculum.cells import boundaries
from curriculum_ray.curriculum.importance import GradientNorm, Importance, LossSecondMoment
from curriculum_ray.diffusion.levels import DiscreteTimesteps
from published import Check, row
from published.processes import products

SPEED = "Wang et al. 2024, released code"


def speed() -> Iterator[Check]:
    """Its density, by playing the released draw in pairs, and its weights, from the betas."""
    alphas = products("linear", 1000)
    levels = DiscreteTimesteps(torch.tensor(alphas))
    flat = np.flatnonzero(np.gradient(np.sqrt(1 - alphas)) < 1e-4)
    end = int(flat[0]) + 1
    # The first half of a batch by the asymmetric density, the second half its partners.
    rng, own = np.random.default_rng(0), np.where(np.arange(1000) < 700, 5.0, 1.0)
    first = rng.choice(1000, size=2_000_000, p=own / own.sum())
    batch = np.concatenate([first, np.where(first < end, end - first, first - end)])
    played = np.histogram(batch, bins=20, range=(0, 1000))[0] / len(batch)
    ours = boundaries(Speed(), levels).diff().numpy()
    yield row("speed: density in 20 parts", SPEED, ours.reshape(20, 50).sum(1), played, 0.03)
    below, above = (np.mean(part) for part in np.split(ours, [700]))
    yield row("speed: density below 700 over above", SPEED, below / above, _ratio(own / own.sum(), end), 1e-6)
    growth = np.diff(1 - alphas, prepend=0)[1:]
    central = np.concatenate([growth[:1], (growth[1:] + growth[:-1]) / 2, growth[-1:]])
    scaled = (central - central.min()) / (central.max() - central.min())
    weights = np.where(np.arange(1000) < 700, 0.4 + 0.2 * scaled, 1.0)
    given = Speed().loss_weights(levels)
    assert given is not None
    yield row("speed: weights", SPEED, given, weights)


def _ratio(own: np.ndarray, end: int) -> float:
    """Density below timestep 700 over that above, summed up timestep by timestep."""
    total = np.zeros(1000)
    for t, share in enumerate(own):
        total[t] += share / 2
        total[abs(end - t)] += share / 2
    return float(total[:700].mean() / total[700:].mean())


def changing() -> Iterator[Check]:
    """What is drawn before, in the middle of and after a change, beside the mixture's distribution."""
    base = {"kind": "changing", "first": {"kind": "logit_normal"}, "then": {"kind": "uniform"}}
    schedule = CurriculumSchedule.from_dict(
        {"version": 1, "base": {**base, "at_share": 0.25, "blend_share": 0.5}}
    )
    batch = 4096
    sampler = TimestepSampler(schedule, flow=True, total_images=8 * batch)
    times = np.linspace(0.05, 0.95, 19)
    logit_normal = stats.norm.cdf(np.log(times / (1 - times)))
    for step in range(8):
        drawn = sampler.sample(batch).double().numpy()
        share = min(max((step / 8 - 0.25) / 0.5, 0.0), 1.0)
        expected = (1 - share) * logit_normal + share * times
        empirical = (drawn[:, None] < times).mean(0)
        if step in (0, 4, 7):
            # Four standard errors of an independent draw; the smallest probability is 0.0016.
            yield row(
                f"changing: {step}/8 of training", "Sun 2026, 2603.12517", empirical, expected, 0.07, 0.5
            )
        sampler.update(torch.zeros(batch))


def importance() -> Iterator[Check]:
    """Probabilities of the bins, the expectation of what is drawn, and the gradient at the output by autograd."""
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=(12, 10)) * np.linspace(0.1, 3, 12)[:, None]
    rule = Importance(LossSecondMoment(bins=12, history=10))
    history = rule.init()
    for column in losses.T:
        # One loss of each bin a step.
        u = (torch.arange(12, dtype=torch.float64) + 0.5) / 12
        values = torch.tensor(column)
        history = rule.update(history, rule.row(u, values, values, 1).tolist())
    ratios = np.array(rule.ratios(history, [True] * 12))
    p = np.sqrt((losses**2).mean(1))
    p = p / p.sum() * (1 - 0.001) + 0.001 / 12
    yield row("loss-second-moment probabilities", "Nichol & Dhariwal 2021, Eq. 18", ratios / 12, p)
    expected = losses.mean(1)
    yield row("loss under importance and 1/p weights", "unbiased", p @ (expected / ratios), expected.mean())
    output = torch.randn(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    weight = torch.tensor([0.3, 1.0, 2.0, 5.0, 0.01], dtype=torch.float64)
    raw = output.square().mean(1)
    (gradient,) = torch.autograd.grad((weight * raw).sum(), output)
    squares = GradientNorm().squares(raw.detach(), (weight * raw).detach())
    norms = gradient.square().sum(1)
    yield row(
        "gradient norm at the output",
        "Katharopoulos & Fleuret 2018",
        squares / squares.sum(),
        norms / norms.sum(),
    )


def checks() -> Iterator[Check]:
    """All of this file."""
    yield from speed()
    yield from changing()
    yield from importance()
