"""Importance: histories, warm-up and ratios beside improved-diffusion's rule, written out again."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.curriculum.importance import GradientNorm, Importance, LossSecondMoment
from curriculum_ray.diffusion.levels import DiscreteTimesteps

LINEAR = DiscreteTimesteps((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))


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


def test_masses_weigh_the_mean_so_that_epsilon_is_the_share_without_importance():
    rule = Importance(LossSecondMoment(bins=5, history=1, uniform_prob=0.25))
    masses, roots = np.array([0.02, 0.02, 0.02, 1.0, 0.0]), np.array([80.0, 40.0, 20.0, 1.0, 7.0])
    ratios = np.array(rule.ratios([[root**2] for root in roots], masses.tolist()))
    drawn = masses * ratios / masses.sum()
    assert drawn == pytest.approx(0.75 * masses * roots / (masses @ roots) + 0.25 * masses / masses.sum())
    assert drawn.sum() == pytest.approx(1)


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


def schedule(**groups) -> CurriculumSchedule:
    curriculum = {
        "clusters": {"by": "uniform", "count": 4},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "fixed", "stage_images": 1600},
    }
    importance = {"rule": "loss_second_moment", "bins": 16, "history": 3}
    return CurriculumSchedule.from_dict({"importance": importance, **curriculum, **groups})


def train(run: TimestepSampler, steps: int, batch: int = 32) -> list[tuple]:
    """Draws, stage and weights of each step; the loss rises with noise."""
    seen = []
    for _ in range(steps):
        levels, weights = run.sample(batch), run.weights
        seen.append((levels.tolist(), run.stage, None if weights is None else weights.tolist()))
        run.update(0.1 + run.last_u)
    return seen


def test_a_sampler_follows_the_losses_within_what_is_active():
    run = TimestepSampler(schedule(), num_timesteps=1000, window=2)
    seen = train(run, 300)
    assert {stage for _, stage, _ in seen} == {0, 1, 2, 3}
    for levels, stage, _ in seen:
        assert min(levels) >= 750 - 250 * stage
    # A cluster that joins has no history: draws are plain for a while, and by importance again.
    for stage in range(4):
        weighed = [weights is not None for _, now, weights in seen if now == stage]
        assert not weighed[0]
        assert weighed[-1]
    counts, sums = torch.zeros(1000), torch.zeros(1000)
    for levels, stage, weights in seen[-100:]:
        assert stage == 3
        counts.index_add_(0, torch.tensor(levels), torch.ones(len(levels)))
        sums.index_add_(0, torch.tensor(levels), torch.tensor(weights))
    # The loss of the noisiest tenth is 1.05 on average, of the cleanest 0.15.
    assert 5.5 < float(counts[900:].sum() / counts[:100].sum()) < 8.5
    assert float(sums[900:].sum() / sums[:100].sum()) == pytest.approx(1, abs=0.1)
    assert float(sums.sum()) == pytest.approx(3200, rel=0.01)


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        # Edges from a search for borders of cells lie a rounding error off those of bins.
        ({}, {"num_timesteps": 100}),
        ({"base": {"kind": "logit_normal"}}, {"num_timesteps": 1000}),
        # Some bins are never drawn any more.
        (
            {
                "base": {
                    "kind": "changing",
                    "at_images": 0,
                    "then": {"kind": "normal", "mean": 0.3, "std": 0.1},
                }
            },
            {"flow": True},
        ),
    ],
)
def test_a_sliver_of_a_bin_does_not_keep_draws_plain(groups, options):
    curriculum = {
        "clusters": {"by": "uniform", "count": 10},
        "pacing": {"rule": "fixed", "stage_images": 12800},
        "importance": {"rule": "loss_second_moment", "bins": 100, "history": 5},
    }
    seen = train(TimestepSampler(schedule(**curriculum, **groups), **options), 2000, batch=64)
    for stage in range(10):
        weighed = [weights is not None for _, now, weights in seen if now == stage]
        assert sum(weighed[100:]) == len(weighed[100:]) > 0, stage


def test_half_precision_losses_have_the_row_of_whole_ones():
    for rule in (LossSecondMoment(bins=2, history=1), GradientNorm(bins=2, history=1)):
        u, loss = torch.linspace(0, 0.999, 1024, dtype=torch.float64), torch.full((1024,), 0.3)
        half = loss.to(torch.bfloat16)
        whole = Importance(rule).row(u, half.float(), half.float(), 1)
        assert torch.equal(Importance(rule).row(u, half, half, 1), whole)
        assert whole[1::2].tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_resumed_sampler_keeps_the_window_that_was_given_to_the_first():
    for window in (5, 20):
        first = TimestepSampler(schedule(), num_timesteps=1000, window=window)
        train(first, 40)
        after = TimestepSampler(schedule(), num_timesteps=1000)
        after.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert train(after, 60) == train(first, 60)


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"base": {"kind": "changing", "at_images": 800, "blend_images": 3200, "first": {"kind": "beta"}}},
        {"importance": {"rule": "gradient_norm", "bins": 16, "history": 3}},
    ],
)
@pytest.mark.parametrize("stop", [40, 77])
def test_a_resumed_sampler_draws_and_weighs_to_the_bit(groups, stop):
    whole = train(TimestepSampler(schedule(**groups), num_timesteps=1000, window=5), 160)
    first = TimestepSampler(schedule(**groups), num_timesteps=1000, window=5)
    train(first, stop)
    assert first.at_boundary == (stop % 5 == 0)
    second = TimestepSampler(schedule(**groups), num_timesteps=1000, window=5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert train(second, 160 - stop) == whole[stop:]


def stage_steps(importance: str, seed: int, **pacing) -> list[int]:
    """The steps at which the stages of a plateau change, for a loss that depends on noise level and step only."""
    groups = {
        "clusters": {"by": "uniform", "count": 3},
        "pacing": {"rule": "plateau", "patience": 60, **pacing},
    }
    rule = {"rule": importance} | ({} if importance == "none" else {"bins": 50})
    run = TimestepSampler(schedule(importance=rule, **groups), num_timesteps=1000, seed=seed)
    stages, generator = [], torch.Generator().manual_seed(seed)
    for step in range(2000):
        run.sample(128)
        stages.append(run.stage)
        assert run.weights is None or importance != "none"
        noise = 0.95 + 0.1 * torch.rand(128, generator=generator, dtype=torch.float64)
        run.update((0.001 + (1 - run.last_u) ** 4 * 0.5 ** (step / 100)) * noise)
    return [stages.index(stage) for stage in (1, 2)]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("importance", ["loss_second_moment", "gradient_norm"])
def test_a_plateau_reads_the_loss_that_draws_without_importance_would_have(importance, normalize):
    # Read as they are drawn, the losses jump when importance begins, and a stage ends some 60 steps later.
    for seed in range(2):
        plain, weighed = (stage_steps(rule, seed, normalize=normalize) for rule in ("none", importance))
        assert weighed == pytest.approx(plain, rel=0.15)
        assert np.diff([0, *plain]).min() > 300


def test_the_weights_of_the_base_belong_to_the_loss_that_importance_follows():
    groups = {
        "base": {"kind": "speed"},
        "clusters": {"by": "uniform", "count": 1},
        "order": {"direction": "none"},
        "pacing": None,
    }
    run = TimestepSampler(schedule(**groups), levels=LINEAR, window=1)
    run.sample(1000)
    bins = (run.last_u * 16).long()
    squares = torch.zeros(16).index_reduce_(0, bins, run.weights.square(), "mean", include_self=False)
    for _ in range(20):
        run.update(torch.ones(1000))
        run.sample(1000)
        assert run.weights is not None
    wanted = squares.sqrt() / squares.sqrt().mean()
    density = run.density(torch.linspace(0, 1, 17, dtype=torch.float64))
    assert density.tolist() == pytest.approx(wanted.tolist(), rel=0.03)
    assert wanted.max() / wanted.min() > 1.5


def test_weights_that_nobody_multiplies_by_are_refused():
    for groups in ({}, {"importance": {"rule": "none"}, "base": {"kind": "speed"}}):
        run = TimestepSampler(schedule(**groups), levels=LINEAR)
        run.sample(8)
        with pytest.raises(ValueError, match="multiply their losses by `weights`"):
            run.update(torch.zeros(8))
    plain = TimestepSampler(CurriculumSchedule.uniform(), levels=LINEAR)
    plain.sample(8)
    plain.update(torch.zeros(8))
    assert plain.weights is None


def test_importance_needs_a_loss_for_each_sample():
    run = TimestepSampler(schedule(), num_timesteps=1000)
    run.sample(8)
    assert run.weights is None
    with pytest.raises(ValueError, match=r"importance needs losses of shape \(8,\), but got \(\)"):
        run.update(torch.tensor(0.5))


def test_no_importance_leaves_the_id_of_a_schedule_as_it_was():
    plain = CurriculumSchedule.uniform()
    assert "importance" not in plain.to_dict()
    assert plain.schedule_id != CurriculumSchedule(importance=LossSecondMoment()).schedule_id
    with_it = CurriculumSchedule(importance=GradientNorm(bins=7))
    assert CurriculumSchedule.from_dict(with_it.to_dict()) == with_it
    assert "importance by gradient_norm" in with_it.describe()


def test_a_window_of_no_steps_exchanges_at_every_step_as_it_says():
    runs = {
        window: TimestepSampler(schedule(), num_timesteps=1000, window=window) for window in (0, 1, 10, None)
    }
    seen = {window: train(run, 30) for window, run in runs.items()}
    assert seen[0] == seen[1] != seen[10]
    assert seen[None] == seen[10]
