"""SpeeD beside an independent computation of what the released code draws and weighs."""

import numpy as np
import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, DifficultyCurve, Speed, TimestepSampler
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, Sigmas

T = 1000
NOISE = 1 - np.cumprod(1 - np.linspace(1e-4, 0.02, T))
LINEAR = DiscreteTimesteps(torch.from_numpy(1 - NOISE))


def published(own: np.ndarray) -> np.ndarray:
    """The density of a batch of which half is drawn from `own` and half are its partners."""
    end = int(np.argmax(np.gradient(np.sqrt(NOISE)) < 1e-4)) + 1
    assert end == 642
    both = np.zeros(T)
    for t in range(T):
        both[t] += own[t] / 2
        both[end - t if t < end else t - end] += own[t] / 2
    return both


def asymmetric(k: float, border: int) -> np.ndarray:
    own = np.where(np.arange(T) < border, k, 1.0)
    return own / own.sum()


def drawn(base: Speed, count: int = 2_000_000) -> np.ndarray:
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.bincount(level_of(base, u, LINEAR), minlength=T).numpy() / count


@pytest.mark.parametrize(
    ("base", "own"),
    [
        (Speed(), asymmetric(5, 700)),
        (Speed(tau=0.5), asymmetric(5, 500)),
    ],
)
def test_timesteps_have_the_density_of_the_released_pairs(base, own):
    assert np.abs(drawn(base) - published(own)).max() < 1e-6


def test_with_linear_betas_the_density_below_700_is_ten_times_that_above():
    density = drawn(Speed())
    assert density[:700].mean() / density[700:].mean() == pytest.approx(10.4286, abs=1e-3)


def test_without_tau_the_border_is_that_of_the_first_release():
    # Its own formula: p = normalised(1.5 + tanh(1e6·(∂√(1-ᾱ) - 1e-4))), which is 2.5 and 0.5.
    own = 1.5 + np.tanh(1e6 * (np.gradient(np.sqrt(NOISE)) - 1e-4))
    assert np.abs(drawn(Speed(tau=None)) - published(own / own.sum())).max() < 1e-6


def test_weights_are_the_released_change_of_the_schedule_within_their_ceiling():
    growth = np.gradient(NOISE)
    expected = 0.4 + 0.2 * (growth - growth.min()) / (growth.max() - growth.min())
    expected[700:] = 1.0
    weights = Speed().loss_weights(LINEAR)
    assert np.allclose(weights.numpy(), expected, atol=1e-12)
    assert weights[:700].min() >= 0.4
    assert weights[:700].max() == pytest.approx(0.6)
    assert Speed(ceiling=None).loss_weights(LINEAR) is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"levels": FlowTimes()}, "base speed does not apply to flow levels"),
        ({"levels": Sigmas()}, "base speed does not apply to sigma levels"),
        ({"num_timesteps": 1000}, "alphas_cumprod"),
        # Nothing flattens out: the density would be uniform, and the rival none.
        ({"levels": DiscreteTimesteps(1 - torch.linspace(0.01, 0.9, 50).double() ** 2)}, "flattens out"),
    ],
)
def test_speed_is_refused_where_its_schedule_says_nothing(options, line):
    with pytest.raises(ConfigError, match=line):
        TimestepSampler(CurriculumSchedule(base=Speed()), **options)


@pytest.mark.parametrize("speed", [Speed(tau=None), Speed(ceiling=None), Speed(tau=None, ceiling=None)])
def test_what_is_left_out_on_purpose_stays_so_in_a_file(tmp_path, speed):
    schedule = CurriculumSchedule(base=speed)
    schedule.to_file(tmp_path / "schedule.yaml")
    assert CurriculumSchedule.from_file(tmp_path / "schedule.yaml") == schedule
    curve = DifficultyCurve(
        kind="loss", data="digits", process="ddpm", base=speed, u=(0.0, 0.5, 1.0), difficulty=(2.0, 1.0)
    )
    curve.to_file(tmp_path / "curve.json")
    assert DifficultyCurve.from_file(tmp_path / "curve.json") == curve
    assert len({one.schedule_id for one in (schedule, CurriculumSchedule(base=Speed()))}) == 2
