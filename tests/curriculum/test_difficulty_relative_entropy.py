"""Relative entropy between marginals: against numerical integration, closed forms and reference values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curriculum_ray.curriculum.difficulty import (
    Mixture,
    choose_timesteps,
    gaussian_relative_entropy,
    monte_carlo,
    principal_moments,
    relative_entropy,
)


def cosine(steps: int) -> tuple[Tensor, Tensor]:
    """Nichol & Dhariwal 2021, §3.2, with betas clipped at 0.999."""
    f = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    betas = torch.tensor([min(1 - f[t + 1] / f[t], 0.999) for t in range(steps)], dtype=torch.float64)
    alphas = (1 - betas).cumprod(0)
    return alphas.sqrt(), (1 - alphas).sqrt()


def log_density(mixture: Mixture, x: Tensor, signal: float, noise_std: float) -> Tensor:
    """log q(x) at a level, float64 (B,), of points (B, D), written out."""
    variances = signal**2 * mixture.variances + noise_std**2
    offsets = x.double()[:, None] - signal * mixture.centres.double()
    exponents = -0.5 * (offsets**2).sum(2) / variances - 0.5 * mixture.dim * (2 * math.pi * variances).log()
    return torch.logsumexp(mixture.log_weights + exponents, dim=1)


def integrated(mixture: Mixture, signal: Tensor, noise: Tensor, t: int) -> float:
    """∫ q_{t-1} log(q_{t-1} / q_t) over the plane by the trapezoid rule."""
    narrowest = float((signal[t - 1] ** 2 * mixture.variances.min() + noise[t - 1] ** 2).sqrt())
    axis = torch.arange(-7, 7, min(narrowest / 2, 0.1), dtype=torch.float64)
    total = 0.0
    for rows in axis.split(64):
        x = torch.cartesian_prod(rows, axis)
        before = log_density(mixture, x, float(signal[t - 1]), float(noise[t - 1]))
        after = log_density(mixture, x, float(signal[t]), float(noise[t]))
        total += float((before.exp() * (before - after)).sum())
    return total * float(axis[1] - axis[0]) ** 2


def plane(variance: float = 0.01) -> Mixture:
    """Three modes in 2-D, the narrowest of the given variance."""
    centres = torch.tensor([[-0.9, -0.5], [0.8, -0.4], [0.1, 0.9]])
    return Mixture.of(
        centres, variance * torch.tensor([1.0, 2.0, 4.0]), weights=torch.tensor([2.0, 1.0, 1.0])
    )


@pytest.mark.parametrize(
    ("steps", "t", "samples", "estimator"),
    [
        (50, 1, 100_000, "log_ratio"),
        (50, 3, 100_000, "log_ratio"),
        (50, 5, 400_000, "log_ratio"),
        (50, 49, 2_000_000, "k3"),
    ],
)
def test_monte_carlo_equals_numerical_integration_to_three_figures(
    steps: int, t: int, samples: int, estimator: str
) -> None:
    signal, noise = cosine(steps)
    exact = integrated(plane(), signal, noise, t)
    measured = relative_entropy(plane(), signal, noise, timesteps=[t], num_samples=samples)
    assert measured.estimator == (estimator,)
    assert float(measured.value) == pytest.approx(exact, rel=2e-3)


def test_a_large_step_between_blurred_modes_agrees_too() -> None:
    signal, noise = torch.tensor([1.0, 0.3]), torch.tensor([0.3, 1.0])
    exact = integrated(plane(), signal, noise, 1)
    measured = relative_entropy(plane(), signal, noise, num_samples=1_000_000)
    assert exact > 0.5
    assert measured.estimator == ("log_ratio",)
    assert float(measured.value) == pytest.approx(exact, rel=2e-3)


def test_a_mixture_of_narrow_modes_is_not_monotone_and_has_the_integrated_peak() -> None:
    signal, noise = cosine(1000)
    mixture = plane(variance=1e-3)
    measured = relative_entropy(mixture, signal, noise, timesteps=range(1, 60), num_samples=4096)
    peak = int(measured.value.argmax())
    t = int(measured.timesteps[peak])
    assert 5 <= t <= 25
    assert measured.value[0] < 0.8 * measured.value[peak] > measured.value[-1]
    assert float(measured.value[peak]) == pytest.approx(integrated(mixture, signal, noise, t), rel=2e-3)


def test_one_gaussian_has_the_closed_form() -> None:
    signal, noise = cosine(20)
    mixture = Mixture.of(torch.tensor([[0.5, -1.0, 2.0]] * 2), torch.tensor([0.3, 0.3]))
    exact = gaussian_relative_entropy(torch.tensor([0.5, -1.0, 2.0]), torch.full((3,), 0.3), signal, noise)
    measured = relative_entropy(mixture, signal, noise, num_samples=16)
    assert torch.allclose(measured.value, exact, rtol=1e-9)


def test_gaussian_form_is_that_of_torch_in_the_plane() -> None:
    signal, noise = cosine(20)
    images = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 0.6], [0.0, 0.2]]
    )
    images = images + torch.tensor([0.3, -0.4])

    def marginal(t: int) -> torch.distributions.MultivariateNormal:
        covariance = signal[t] ** 2 * torch.cov(images.double().T, correction=0) + noise[t] ** 2 * torch.eye(
            2
        )
        return torch.distributions.MultivariateNormal(signal[t] * images.double().mean(0), covariance)

    exact = [float(torch.distributions.kl_divergence(marginal(t - 1), marginal(t))) for t in range(1, 20)]
    assert gaussian_relative_entropy(*principal_moments(images), signal, noise).tolist() == pytest.approx(
        exact
    )


def test_digits_have_the_reference_values_and_become_gaussian_at_the_noisy_end() -> None:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().data).float() / 8 - 1
    signal, noise = cosine(1000)
    timesteps = [1, 5, 100, 500, 900, 990]
    measured = relative_entropy(Mixture.of(images), signal, noise, timesteps=timesteps, num_samples=1024)
    # From another implementation with plain estimators, whose own errors are a few percent.
    assert measured.value[:5].tolist() == pytest.approx([7.1, 0.79, 5.6e-3, 1.8e-4, 3.9e-5], rel=0.15)
    gaussian = gaussian_relative_entropy(*principal_moments(images), signal, noise, timesteps)
    assert gaussian[0] < 0.1 * measured.value[0]
    assert float((measured.value - gaussian)[-2:].abs().div(measured.stderr[-2:]).max()) < 4
    assert measured.estimator[0] == "log_ratio"
    assert measured.estimator[-1] == "k3"


@given(count=st.integers(2, 30), dim=st.integers(1, 5), samples=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_blocks_of_any_size_give_the_unblocked_answer(count: int, dim: int, samples: int, seed: int) -> None:
    """Log-sum-exp accumulated over blocks of centres equals the density formed at once."""
    signal, noise = cosine(10)
    generator = torch.Generator().manual_seed(seed)
    mixture = Mixture.of(torch.randn(count, dim, generator=generator), torch.rand(count, generator=generator))
    clean = torch.randn(samples, dim, generator=generator, dtype=torch.float64)
    eps = torch.randn(samples, dim, generator=generator, dtype=torch.float64)
    timesteps = torch.arange(1, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monte_carlo, "BLOCK_ELEMENTS", samples * 3)
        blocked = monte_carlo._log_ratios(mixture, clean, eps, signal, noise, timesteps)
    for m, t in enumerate(timesteps.tolist()):
        x = signal[t - 1] * clean + noise[t - 1] * eps
        at_once = log_density(mixture, x, float(signal[t - 1]), float(noise[t - 1])) - log_density(
            mixture, x, float(signal[t]), float(noise[t])
        )
        assert torch.allclose(blocked[m], at_once, atol=1e-9, rtol=1e-9)


@given(weights=st.lists(st.floats(0.01, 10), min_size=2, max_size=20), count=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_images_are_drawn_evenly(weights: list[float], count: int) -> None:
    weight = torch.tensor(weights, dtype=torch.float64)
    weight = weight / weight.sum()
    picks = monte_carlo._even_picks(weight.log(), count, torch.Generator().manual_seed(0))
    drawn = torch.bincount(picks, minlength=len(weight))
    assert drawn.sum() == count
    assert float((drawn - count * weight).abs().max()) < 1 + 1e-6


def test_k3_is_refused_where_its_rare_samples_would_be_missed() -> None:
    """For r ~ N(K, 2K) with K = 8, k3 reads far too low from 1,000 samples, with a small standard error."""
    ratios = 8 + 4 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, stderr, names = monte_carlo._estimate(ratios, torch.randn_like(ratios) * 10)
    assert names == ("log_ratio",)
    assert abs(float(value) - 8) < 4 * float(stderr)


def test_k3_is_taken_where_the_plain_mean_drowns() -> None:
    ratios = (
        1e-4 + math.sqrt(2e-4) * torch.randn(1, 1000, generator=torch.Generator().manual_seed(1)).double()
    )
    value, stderr, names = monte_carlo._estimate(ratios, torch.zeros_like(ratios))
    assert names == ("k3",)
    assert abs(float(value) - 1e-4) < 4 * float(stderr) < 4e-5


def test_the_grid_is_everything_when_cheap_and_keeps_both_ends_when_not() -> None:
    assert choose_timesteps(100, 50, 10) == list(range(1, 100))
    grid = choose_timesteps(1000, 50_000, 512)
    assert len(grid) <= 40
    assert (grid[0], grid[-1]) == (1, 999)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"timesteps": [0]}, "timesteps must lie in 1 … 9"),
        ({"timesteps": [10]}, "timesteps must lie in 1 … 9"),
        ({"num_samples": 15}, "num_samples must be at least 16"),
        ({"noise_std": torch.zeros(10)}, "positive noise"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object], rule: str) -> None:
    signal, noise = cosine(10)
    arguments = {"signal": signal, "noise_std": noise} | change
    with pytest.raises(ValueError, match=rule):
        relative_entropy(plane(), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dim", "scale"), [(3, 5.0), (64, 1.0), (64, 10.0)])
def test_a_standard_error_is_never_below_the_rounding_error(dim: int, scale: float) -> None:
    """Modes that the noise never confuses leave no sampling error, and the closed form of one Gaussian each."""
    signal, noise = cosine(1000)
    centres = scale * torch.randn(20, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    timesteps = torch.tensor([1, 2, 5, 20])
    measured = relative_entropy(
        Mixture.of(centres), signal, noise, timesteps=timesteps.tolist(), num_samples=64
    )
    before, after = noise[timesteps - 1] ** 2, noise[timesteps] ** 2
    excess = (before - after) / after
    shift = (signal[timesteps - 1] - signal[timesteps]) ** 2 * (centres**2).sum(1).mean() / after
    exact = (dim * (excess - torch.log1p(excess)) + shift) / 2
    assert bool(((measured.value - exact).abs() <= 3 * measured.stderr).all())
    assert float((measured.stderr / measured.value).min()) >= torch.finfo(torch.float64).eps
    # It is a rounding error still: nothing that a reader of the curve would take for an uncertainty.
    assert float((measured.stderr / measured.value).max()) < 1e-7
