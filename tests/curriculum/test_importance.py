"""Importance: histories, warm-up and ratios beside improved-diffusion's rule, written out again."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.curriculum.importance import GradientNorm, Importance, LossSecondMoment


def played(rule: Importance, steps: int, seed: int = 0):
    """The history after some steps, and each bin's losses in the sequence in which they came."""
    generator = np.random.default_rng(seed)
    history, losses = rule.init(), [[] for _ in range(rule.spec.bins)]
    for _ in range(steps):
        # At most one sample for each bin, so that an entry of ours is an entry of the original.
        chosen = generator.permutation(rule.spec.bins)[:3]
        values = generator.exponential(size=3)
        u = torch.tensor((chosen + generator.random(3)) / rule.spec.bins, dtype=torch.float64)
        loss = torch.tensor(values)
        for place, value in zip(chosen, values, strict=True):
            losses[place].append(value)
        history = rule.update(history, rule.row(u, loss, loss, 1).tolist())
    return history, losses


def test_ratios_are_those_of_the_loss_second_moment_resampler():
    rule = Importance(LossSecondMoment(bins=8, history=10, uniform_prob=0.001))
    history, losses = played(rule, 100)
    roots = np.array([math.sqrt(np.mean(np.square(each[-10:]))) for each in losses])
    weights = roots / roots.sum() * (1 - 0.001) + 0.001 / 8
    assert rule.ratios(history, [True] * 8) == pytest.approx((8 * weights).tolist())


def test_draws_are_plain_until_every_active_bin_has_its_history():
    rule = Importance(LossSecondMoment(bins=8, history=10))
    assert rule.ratios(rule.init(), [True] * 8) is None
    for steps in range(1, 80):
        history, losses = played(rule, steps)
        full = all(len(each) >= 10 for each in losses)
        assert (rule.ratios(history, [True] * 8) is not None) == full
        ready = [len(each) >= 10 for each in losses]
        if any(ready):
            assert rule.ratios(history, ready) is not None
    assert full


def test_a_bin_without_any_loss_is_still_drawn():
    rule = Importance(LossSecondMoment(bins=2, history=1, uniform_prob=0.01))
    assert rule.ratios(((0.0,), (4.0,)), [True, True]) == pytest.approx([0.01, 1.99])
    assert rule.ratios(((0.0,), (0.0,)), [True, True]) is None


def test_inactive_bins_take_no_part_in_the_mean():
    rule = Importance(LossSecondMoment(bins=3, history=1, uniform_prob=0.5))
    ratios = rule.ratios(((1.0,), (9.0,), ()), [True, True, False])
    assert ratios[:2] == pytest.approx([0.5 * 0.5 + 0.5, 0.5 * 1.5 + 0.5])


def test_gradient_norm_reads_the_gradient_at_the_output():
    # L = w·mean((out - target)²): autograd's squared norm is 4·w²·raw/D.
    generator = torch.Generator().manual_seed(0)
    out = torch.randn(6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.rand(6, dtype=torch.float64, generator=generator)
    raw = out.square().mean(1)
    (weight * raw).sum().backward()
    squares = GradientNorm().squares(raw.detach(), (weight * raw).detach())
    assert torch.allclose(out.grad.square().sum(1), 4 / 5 * squares)
    assert float(GradientNorm().squares(torch.zeros(1), torch.zeros(1))) == 0.0


def test_a_row_that_is_not_finite_says_nothing():
    rule = Importance(LossSecondMoment(bins=2))
    assert rule.update(rule.init(), [math.nan, 0.5, 1.0, 0.5]) == rule.init()


@given(parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_rows_of_parts_add_up_to_the_row_of_the_batch(parts, seed):
    rule = Importance(LossSecondMoment(bins=5))
    generator = torch.Generator().manual_seed(seed)
    u, loss = (torch.rand(8 * parts, dtype=torch.float64, generator=generator) for _ in range(2))
    whole = rule.row(u, loss, loss, 1)
    pieces = [rule.row(u[k::parts].contiguous(), loss[k::parts], loss[k::parts], parts) for k in range(parts)]
    assert torch.allclose(torch.stack(pieces).sum(0), whole)
