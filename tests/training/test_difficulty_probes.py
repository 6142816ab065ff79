"""Probe models: how convergence and gradients are read, on curves and gradients whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset
from curriculum_ray.diffusion import DDPMSpec
from curriculum_ray.models import UNetSpec
from curriculum_ray.training.difficulty import (
    GradientMoments,
    ProbeRun,
    ProbeSpec,
    convergence_curve,
    cosines,
    evaluation_steps,
    final_loss,
    gradient_curve,
    gradient_moments,
    loss_curve,
    noise_scale,
    normalised,
    steps_until,
    train_probe,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other in every small operation, minutes where other programs run too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NAMES = {"data": "blobs", "process": "ddpm-epsilon"}


@given(st.integers(20, 100_000))
@settings(max_examples=50, deadline=None)
def test_losses_are_read_from_the_first_step_to_the_last_and_never_far_apart(total: int) -> None:
    steps = evaluation_steps(total)
    assert (steps[0], steps[-1]) == (0, total)
    gaps = torch.tensor(steps).diff()
    assert int(gaps.min()) >= 1
    assert int(gaps.max()) <= max(1, total // 40)
    assert len(steps) < 200


def test_an_exponential_decay_takes_its_time_constant_times_log_ten() -> None:
    steps = evaluation_steps(2000)
    rates = torch.tensor([10.0, 40.0, 100.0])
    losses = 0.3 + torch.exp(-torch.tensor(steps)[:, None] / rates)
    assert final_loss(steps, losses).tolist() == pytest.approx([0.3] * 3, abs=1e-6)
    measured = steps_until(steps, normalised(steps, losses))
    assert measured.tolist() == pytest.approx((rates * math.log(10)).tolist(), rel=0.01)


def test_a_loss_that_does_not_fall_takes_the_whole_run() -> None:
    steps = evaluation_steps(100)
    losses = torch.stack([torch.ones(len(steps)), torch.tensor(steps) / 100 + 1], dim=1)
    remaining = normalised(steps, losses)
    assert bool((remaining == 1).all())
    assert steps_until(steps, remaining).tolist() == [100, 100]


@given(st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=20, deadline=None)
def test_steps_do_not_depend_on_the_scale_or_the_floor_of_the_loss(scale: float, floor: float) -> None:
    steps = evaluation_steps(500)
    losses = torch.exp(-torch.tensor(steps, dtype=torch.float64)[:, None] / 50)
    same = steps_until(steps, normalised(steps, losses))
    assert torch.allclose(steps_until(steps, normalised(steps, scale * losses + floor)), same, rtol=1e-6)


def noisy_gradients(means: Tensor, variance: float, batch_size: int, seed: int = 0) -> GradientMoments:
    """Moments of gradients that are normal around `means` (K, P) with `variance` per image and parameter."""
    generator = torch.Generator().manual_seed(seed)

    def gradient(interval: int) -> Tensor:
        noise = torch.randn(means.shape[1], generator=generator)
        return means[interval] + noise * (variance / batch_size) ** 0.5

    return gradient_moments(gradient, intervals=len(means), batches=64, batch_size=batch_size)


def test_moments_of_known_gradients_are_recovered_at_any_batch_size() -> None:
    means = torch.zeros(3, 500)
    means[0, :100], means[1, :100], means[2, :50] = 1.0, 0.5, -1.0
    for batch_size in (1, 16):
        moments = noisy_gradients(means, variance=4.0, batch_size=batch_size)
        exact = (means @ means.T).double()
        assert torch.allclose(moments.products, exact, atol=12)
        assert moments.variance.tolist() == pytest.approx([2000] * 3, rel=0.05)
        assert noise_scale([moments]).tolist() == pytest.approx([20, 80, 40], rel=0.35)
        assert torch.allclose(
            cosines([moments]),
            torch.tensor([[1, 1, -0.7071], [1, 1, -0.7071], [-0.7071, -0.7071, 1]]).double(),
            atol=0.15,
        )


def test_squared_length_is_unbiased_where_noise_hides_the_gradient() -> None:
    lengths = [
        float(noisy_gradients(torch.zeros(1, 50), 100.0, 1, seed).products[0, 0]) for seed in range(40)
    ]
    assert min(lengths) < 0 < max(lengths)
    assert abs(sum(lengths) / 40) < 4 * float(torch.tensor(lengths).std()) / 40**0.5


def test_a_hidden_gradient_has_infinite_noise_scale_and_no_direction() -> None:
    moments = GradientMoments(
        1, torch.tensor([[-0.1, 0.2], [0.2, 1.0]]).double(), torch.tensor([3.0, 3.0]).double()
    )
    assert noise_scale([moments]).tolist() == [math.inf, 3.0]
    assert cosines([moments]).tolist() == [[1, 0], [0, 1]]


def tiny(**changes: object) -> ProbeSpec:
    values: dict[str, object] = {
        "process": DDPMSpec(num_timesteps=20),
        "model": UNetSpec(base_channels=4, channel_mult=(1,), attention=False),
        "intervals": 4,
        "steps": 20,
        "batch_size": 8,
        "watched": 4,
        "gradient_batches": 2,
        "gradient_batch_size": 4,
        "gradient_points": 2,
    }
    return ProbeSpec.model_validate(values | changes)


@pytest.fixture(scope="module")
def blobs() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    return Dataset(name="blobs", stored=torch.rand(16, 1, 4, 4, generator=generator) * 2 - 1)


def test_a_probe_repeats_itself_and_measuring_gradients_does_not_disturb_it(blobs: Dataset) -> None:
    plain = train_probe(tiny(), blobs, seed=3)
    watched = train_probe(tiny(), blobs, seed=3, gradients=True)
    assert torch.equal(plain.losses, watched.losses)
    assert plain.gradients == ()
    assert [moment.step for moment in watched.gradients] == [10, 20]
    assert plain.steps == tuple(evaluation_steps(20))
    assert plain.losses.shape == (21, 4)
    assert not torch.equal(plain.losses, train_probe(tiny(), blobs, seed=4).losses)


def test_all_probes_of_a_seed_start_from_one_model_and_read_the_same_images(blobs: Dataset) -> None:
    shared = train_probe(tiny(), blobs, seed=1)
    for interval in range(4):
        alone = train_probe(tiny(), blobs, seed=1, interval=interval)
        assert alone.losses.shape == (21, 1)
        assert torch.equal(alone.losses[0, 0], shared.losses[0, interval])
        assert not torch.equal(alone.losses[-1, 0], shared.losses[-1, interval])


def test_a_probe_learns(blobs: Dataset) -> None:
    run = train_probe(tiny(steps=200, batch_size=32, watched=32), blobs, seed=0)
    assert float(run.losses[-1].mean()) < 0.8 * float(run.losses[0].mean())


def test_more_intervals_than_timesteps_are_refused(blobs: Dataset) -> None:
    with pytest.raises(ConfigError, match="intervals must be at most the 20 timesteps, but got 30"):
        train_probe(tiny(intervals=30), blobs, seed=0)


def test_a_loss_that_is_not_finite_ends_in_one_line() -> None:
    broken = Dataset(name="broken", stored=torch.full((4, 1, 4, 4), torch.nan))
    with pytest.raises(ConfigError, match="the loss is not finite after 1 steps"):
        train_probe(tiny(), broken, seed=0)


def decays(seed: int, interval: int | None = None) -> ProbeRun:
    """A made-up run whose four intervals decay with constants 20, 10, 5, 2.5 (times 1 + seed)."""
    steps = evaluation_steps(400)
    constants = torch.tensor([20.0, 10, 5, 2.5], dtype=torch.float64) * (1 + seed)
    losses = torch.exp(-torch.tensor(steps, dtype=torch.float64)[:, None] / constants)
    return ProbeRun(seed, interval, tuple(steps), losses if interval is None else losses[:, [interval]])


def test_shared_and_separate_models_with_equal_losses_give_equal_curves() -> None:
    spec = tiny(steps=400)
    shared = convergence_curve(spec, [decays(0), decays(1)], **NAMES)
    scattered = [decays(seed, interval) for interval in (2, 0, 3, 1) for seed in (1, 0)]
    separate = convergence_curve(spec, scattered, **NAMES)
    assert separate.difficulty == shared.difficulty
    assert separate.meta["method"] != shared.meta["method"]
    assert shared.u == (0, 0.25, 0.5, 0.75, 1)
    assert shared.difficulty[0] == pytest.approx(1.5 * 20 * math.log(10), rel=0.03)
    assert shared.stderr is not None
    assert shared.stderr[0] == pytest.approx(0.5 * 20 * math.log(10), rel=0.03)
    assert shared.meta["by_seed"][1][3] == pytest.approx(5 * math.log(10), rel=0.03)


def test_one_seed_has_no_standard_error() -> None:
    assert convergence_curve(tiny(steps=400), [decays(0)], **NAMES).stderr is None
    assert loss_curve(tiny(steps=400), [decays(0)], **NAMES).stderr is None


def test_noise_scales_beyond_what_was_sampled_are_named_as_lower_bounds() -> None:
    spec = tiny(intervals=2)
    products = torch.tensor([[1e-9, 0.0], [0.0, 1.0]]).double()
    moments = (GradientMoments(20, products, torch.tensor([3.0, 3.0]).double()),)
    runs = [ProbeRun(seed, None, (0, 20), torch.ones(2, 2), moments) for seed in (0, 1)]
    curve = gradient_curve(spec, runs, **NAMES)
    assert curve.difficulty == (spec.gradient_images, 3.0)
    assert curve.meta["at_least"] == [0]
    assert curve.similarity == ((1, 0), (0, 1))


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "adam"},
        {"options": {"amsgrad": True}},
        {"schedule": "cosine"},
    ],
)
def test_settings_of_the_optimiser_that_a_probe_would_not_follow_are_refused(
    optimizer: dict[str, object],
) -> None:
    (name,) = optimizer
    with pytest.raises(
        ValueError, match=f"optimizer.{name} must be left out: probe models are trained by AdamW"
    ):
        tiny(optimizer=optimizer)
    assert tiny(optimizer={"learning_rate": 1e-4, "weight_decay": 0.1}).optimizer.weight_decay == 0.1
