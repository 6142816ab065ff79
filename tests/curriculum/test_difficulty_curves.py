"""Difficulty curves from measurements without a model, and rank correlation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.curriculum import EDM, DifficultyCurve, Uniform
from curriculum_ray.curriculum.difficulty import (
    RelativeEntropy,
    level_scales,
    relative_entropy_curve,
    snr_curve,
)
from curriculum_ray.diffusion import DiscreteTimesteps, FlowTimes, Sigmas


def measured(timesteps: list[int], value: torch.Tensor) -> RelativeEntropy:
    names = ("log_ratio",) * (len(timesteps) - 1) + ("k3",)
    return RelativeEntropy(torch.tensor(timesteps), value.double(), value.double().abs() / 10, names, 64)


def test_a_curve_has_a_bin_per_timestep_and_survives_its_file(tmp_path: Path) -> None:
    value = torch.arange(1, 10).flip(0)
    curve = relative_entropy_curve(
        measured(list(range(1, 10)), value), 10, data="digits", process="ddpm-epsilon", meta={"seed": 3}
    )
    assert curve.u == tuple(t / 10 for t in range(11))
    assert curve.difficulty == pytest.approx((9.0, 9, 8, 7, 6, 5, 4, 3, 2, 1))
    assert curve.meta["estimator"] == {"log_ratio": list(range(1, 9)), "k3": [9]}
    assert curve.meta["seed"] == 3
    curve.to_file(tmp_path / "curve.json")
    assert DifficultyCurve.from_file(tmp_path / "curve.json") == curve


@given(st.lists(st.integers(2, 98), max_size=20), st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_power_laws_are_interpolated_exactly_between_measured_timesteps(
    inner: list[int], power: float
) -> None:
    timesteps = sorted({1, 99, *inner})
    value = torch.tensor(timesteps).double() ** power
    curve = relative_entropy_curve(measured(timesteps, value), 100, data="x", process="y")
    assert curve.difficulty[1:] == pytest.approx([t**power for t in range(1, 100)])
    assert curve.difficulty[0] == curve.difficulty[1]


def test_a_negative_estimate_is_interpolated_linearly_and_kept() -> None:
    curve = relative_entropy_curve(measured([1, 9], torch.tensor([3.0, -1.0])), 10, data="x", process="y")
    assert curve.difficulty[3] == pytest.approx(1.0)
    assert curve.difficulty[9] == -1.0


def test_timesteps_beyond_the_process_are_refused() -> None:
    with pytest.raises(ValueError, match="1 … 9"):
        relative_entropy_curve(measured([1, 10], torch.ones(2)), 10, data="x", process="y")


def test_log_snr_falls_with_noise_and_is_finite_at_zero_terminal_snr() -> None:
    alphas = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    curve = snr_curve(alphas.sqrt(), (1 - alphas).sqrt(), data="x", process="y")
    assert curve.difficulty == pytest.approx((math.log(9), 0.0, -50.0))


def test_levels_have_the_scales_of_their_process_from_clean_to_noisy() -> None:
    alphas = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    signal, noise, base = level_scales(DiscreteTimesteps(alphas), EDM)
    assert torch.allclose(signal**2, alphas)
    assert torch.allclose(signal**2 + noise**2, torch.ones(3).double())
    assert base == Uniform()
    signal, noise, base = level_scales(FlowTimes(), Uniform(), count=4)
    assert torch.allclose(noise, torch.tensor([0.125, 0.375, 0.625, 0.875]).double())
    assert torch.equal(signal, 1 - noise)
    signal, noise, base = level_scales(Sigmas(), EDM, count=5)
    assert bool((signal == 1).all())
    assert bool((noise.diff() > 0).all())
    assert float(noise[2].log()) == pytest.approx(-1.2)
    assert base == EDM
    with pytest.raises(ValueError, match="sigma"):
        level_scales(Sigmas(), Uniform())
