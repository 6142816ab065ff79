"""Noise levels map to log-SNR and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, NoiseLevels, Sigmas


def timesteps(count: int = 1000) -> DiscreteTimesteps:
    return DiscreteTimesteps(torch.cos(torch.linspace(0.02, 1.57, count, dtype=torch.float64)) ** 2)


def test_timesteps_survive_the_way_through_log_snr_and_sigma() -> None:
    levels = timesteps()
    t = torch.arange(1000)
    log_snr = levels.log_snr(t)
    assert torch.equal(levels.from_log_snr(log_snr), t)
    assert torch.equal(levels.from_sigma((-log_snr / 2).exp()), t)


def test_timesteps_survive_float32() -> None:
    levels = timesteps()
    t = torch.arange(1000)
    assert torch.equal(levels.from_log_snr(levels.log_snr(t).float()), t)


def test_the_nearest_timestep_is_taken_and_the_ends_hold() -> None:
    levels = DiscreteTimesteps(torch.sigmoid(torch.tensor([3.0, 1.0, -2.0])))  # log-SNR 3, 1, -2
    log_snr = torch.tensor([99.0, 2.01, 1.99, -0.49, -0.51, -99.0])
    assert levels.from_log_snr(log_snr).tolist() == [0, 0, 1, 1, 2, 2]


def test_time_cuts_the_timesteps_into_equal_parts() -> None:
    levels = timesteps(10)
    v = torch.tensor([0.0, 0.0999, 0.1001, 0.9999, 1.0 - 2**-24])
    t = levels.from_time(v)
    assert t.dtype == torch.long
    assert t.tolist() == [0, 0, 1, 9, 9]


def test_zero_terminal_snr_is_minus_infinity_and_comes_back() -> None:
    levels = DiscreteTimesteps(torch.tensor([0.9, 0.5, 0.0]))
    assert levels.log_snr(torch.tensor(2)) == -torch.inf
    assert levels.from_log_snr(torch.tensor([-torch.inf, 0.0])).tolist() == [2, 1]


@pytest.mark.parametrize("bad", [[0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.5, -0.1], []])
def test_alphas_that_do_not_decrease_within_the_unit_interval_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod"):
        DiscreteTimesteps(torch.tensor(bad))


@settings(deadline=None)
@given(log_snr=st.floats(-20, 20))
@pytest.mark.parametrize("levels", [Sigmas(), FlowTimes()])
def test_continuous_levels_are_inverses(levels: NoiseLevels, log_snr: float) -> None:
    x = torch.tensor(log_snr, dtype=torch.float64)
    torch.testing.assert_close(levels.log_snr(levels.from_log_snr(x)), x, atol=1e-8, rtol=1e-8)
    sigma = (-x / 2).exp()
    torch.testing.assert_close(levels.from_sigma(sigma), levels.from_log_snr(x), rtol=1e-10, atol=0)


@pytest.mark.parametrize("levels", [timesteps(), Sigmas(), FlowTimes()])
def test_more_noise_is_a_higher_level_and_a_lower_log_snr(levels: NoiseLevels) -> None:
    level = levels.from_sigma(torch.tensor([0.1, 1.0, 10.0]))
    assert (level.diff() > 0).all()
    assert (levels.log_snr(level).diff() < 0).all()


def test_flow_time_is_time_and_sigmas_have_none() -> None:
    v = torch.tensor([0.0, 0.25])
    assert torch.equal(FlowTimes().from_time(v), v)
    with pytest.raises(ValueError, match="base distribution"):
        Sigmas().from_time(v)
