"""Base distributions: densities, inverses, domains and refusals."""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import (
    EDM,
    EDM2,
    Asymmetric,
    Beta,
    CosMap,
    CurriculumSchedule,
    FluxShifted,
    LaplaceLogSnr,
    LogitNormal,
    LogNormalSigma,
    Mode,
    Normal,
    Shifted,
    SqrtShifted,
    TimestepSampler,
    Uniform,
)
from curriculum_ray.curriculum.base import level_of, u_of
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, Sigmas

# SD3's mode sampling with s = 0.8 by its own formula, whose u runs from noise to data.
_U = torch.linspace(0, 1, 500_001, dtype=torch.float64)
MODE_TIMES = 1 - _U - 0.8 * (torch.cos(math.pi * _U / 2) ** 2 - 1 + _U)


def mode_cdf(t: float) -> float:
    """P(T <= t), by counting."""
    return float(torch.le(MODE_TIMES, t).double().mean())


# The stated distribution of each base as an independent cumulative distribution over its own domain.
STATED = [
    (Uniform(), stats.uniform.cdf),
    (LogitNormal(mean=0.4, std=0.7), lambda t: stats.norm.cdf(math.log(t / (1 - t)), 0.4, 0.7)),
    (Mode(scale=0.8), mode_cdf),
    (Beta(alpha=0.8), stats.beta(0.8, 1).cdf),
    (LaplaceLogSnr(loc=0.3, scale=0.5), stats.laplace(0.3, 0.5).cdf),
    (EDM, lambda sigma: stats.norm.cdf(math.log(sigma), -1.2, 1.2)),
    (EDM2, lambda sigma: stats.norm.cdf(math.log(sigma), -0.4, 1.0)),
    (Asymmetric(k=5, tau=0.7), lambda t: (5 * min(t, 0.7) + max(t - 0.7, 0)) / (5 * 0.7 + 0.3)),
    (Normal(mean=0.3, std=0.4), stats.truncnorm(-0.3 / 0.4, 0.7 / 0.4, 0.3, 0.4).cdf),
    # SD3's density, summed up.
    (CosMap(), lambda t: integrate.quad(lambda v: 2 / (math.pi - 2 * math.pi * v * (1 - v)), 0, t)[0]),
    # P(s·T / (1 + (s-1)·T) <= t) = P(T <= t / (s - (s-1)·t)).
    (
        Shifted(shift=3.0, of=LogitNormal(mean=0.4, std=0.7)),
        lambda t: stats.norm.cdf(math.log(t / (3 - 2 * t) / (1 - t / (3 - 2 * t))), 0.4, 0.7),
    ),
    (SqrtShifted(tokens=4096, reference=1024, of=Beta(alpha=2.0)), lambda t: (t / (2 - t)) ** 2),
    (FluxShifted(tokens=4096), lambda t: t / (math.exp(1.15) - (math.exp(1.15) - 1) * t)),
]
BASES = [base for base, _ in STATED]
NAMES = [base.kind for base in BASES]


def inner(points: int = 501) -> torch.Tensor:
    return torch.linspace(0, 1, points + 2, dtype=torch.float64)[1:-1]


@pytest.mark.parametrize(("base", "cdf"), STATED, ids=NAMES)
def test_a_million_draws_pass_a_chi_square_test_against_the_stated_density(base, cdf):
    u = torch.rand(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    draws = base.quantile(u)
    # Bins of unequal probability, so that a distribution that is right on quantiles alone would not pass.
    low, high = (
        float(base.quantile(torch.tensor(0.002).double())),
        float(base.quantile(torch.tensor(0.998).double())),
    )
    edges = torch.linspace(min(low, high), max(low, high), 41, dtype=torch.float64)
    observed = torch.bincount(torch.searchsorted(edges, draws), minlength=42).tolist()
    cumulative = [0.0, *(float(cdf(edge)) for edge in edges.tolist()), 1.0]
    expected = [1e6 * (b - a) for a, b in itertools.pairwise(cumulative)]
    assert sum(expected) == pytest.approx(1e6)
    p_value = stats.chisquare(observed, expected, sum_check=False).pvalue
    assert p_value > 1e-4


@pytest.mark.parametrize("base", BASES, ids=NAMES)
def test_cdf_inverts_quantile(base):
    u = inner()
    assert torch.allclose(base.cdf(base.quantile(u)), u, atol=1e-12)


@pytest.mark.parametrize("base", [*BASES, Mode(scale=-1.0), Mode(scale=2 / (math.pi - 2))])
def test_noise_rises_with_u(base):
    values = base.quantile(inner(5001))
    steps = values.diff() if base.domain != "log_snr" else -values.diff()
    assert bool((steps > -1e-15).all())


@pytest.mark.parametrize("base", BASES, ids=NAMES)
def test_both_ends_of_u_are_finite(base):
    ends = base.quantile(torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64))
    assert bool(ends.isfinite().all())


@pytest.mark.parametrize("base", [base for base in BASES if base.domain == "time"])
def test_a_distribution_over_time_is_refused_for_sigmas(base):
    with pytest.raises(ConfigError, match=f"base {base.kind} does not apply to sigma levels"):
        TimestepSampler(CurriculumSchedule(base=base), sigma=True)


@pytest.mark.parametrize("base", [LaplaceLogSnr(), EDM])
def test_a_distribution_over_noise_is_refused_without_a_noise_schedule(base):
    with pytest.raises(ConfigError, match="alphas_cumprod"):
        TimestepSampler(CurriculumSchedule(base=base), num_timesteps=10)


@pytest.mark.parametrize("base", [LaplaceLogSnr(), EDM])
@pytest.mark.parametrize("levels", [Sigmas(), FlowTimes()], ids=["sigmas", "flow"])
def test_noise_levels_keep_the_log_snr_that_was_drawn(base, levels):
    u = inner()
    value = base.quantile(u)
    log_snr = -2 * value.log() if base.domain == "sigma" else value
    assert torch.allclose(levels.log_snr(level_of(base, u, levels)), log_snr, atol=1e-9)
    assert torch.allclose(u_of(base, level_of(base, u, levels), levels), u, atol=1e-9)


def test_noise_distributions_on_timesteps_take_the_nearest_log_snr():
    levels = DiscreteTimesteps(torch.linspace(0.99, 0.01, 50, dtype=torch.float64))
    u = inner(500)
    log_snr = LaplaceLogSnr(scale=2.0).quantile(u)
    table = levels.log_snr(torch.arange(50))
    nearest = (table[None] - log_snr[:, None]).abs().argmin(1)
    assert torch.equal(level_of(LaplaceLogSnr(scale=2.0), u, levels), nearest)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kind": "logit_normal", "std": 0}, "std"),
        ({"kind": "mode", "scale": 1.76}, "scale"),
        ({"kind": "beta", "alpha": -1}, "alpha"),
        ({"kind": "asymmetric", "tau": 700}, "tau"),
        ({"kind": "speed", "tau": 700}, "tau"),
        ({"kind": "speed", "ceiling": 0.4}, "ceiling"),
        ({"kind": "normal", "mean": 3.0, "std": 0.5}, "less than 0.1% of"),
        ({"kind": "shifted", "shift": 0}, "shift"),
        ({"kind": "shifted", "of": {"kind": "laplace_logsnr"}}, "of.kind must be one of"),
        ({"kind": "sqrt_shifted", "tokens": 256}, "reference is required"),
        ({"kind": "changing"}, "exactly one of at_images, at_share"),
        ({"kind": "changing", "at_share": 0.5, "first": {"kind": "uniform"}}, "must differ"),
        ({"kind": "changing", "at_share": 0.5, "blend_share": 0.1, "blend_images": 9}, "at most one of"),
        (
            {"kind": "changing", "at_share": 0.5, "then": {"kind": "changing", "at_share": 0.5}},
            "kind must be",
        ),
        ({"kind": "uniform", "mean": 1}, "mean"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, line):
    with pytest.raises(ConfigError, match=line) as caught:
        parse(CurriculumSchedule, {"base": settings}, "s.yaml")
    assert "\n" not in str(caught.value)


def test_the_default_of_log_normal_sigma_is_edm():
    assert LogNormalSigma() == EDM


@pytest.mark.parametrize(("shift", "lowered"), [(3.0, 2 * math.log(3.0)), (0.5, -2 * math.log(2.0))])
def test_a_shift_lowers_every_log_snr_of_flow_times_alike(shift, lowered):
    # Esser et al. 2024, Eq. 25: lambda_m = lambda_n - 2 ln s.
    u, flow = inner(), FlowTimes()
    plain, shifted = (
        flow.log_snr(level_of(base, u, flow))
        for base in (LogitNormal(), Shifted(shift=shift, of=LogitNormal()))
    )
    assert torch.allclose(plain - shifted, torch.tensor(lowered).double(), atol=1e-9)


@pytest.mark.parametrize(
    ("base", "factor"),
    [
        # SD3's own example: from 1024 to 4096 pixels, alpha = 2.
        (SqrtShifted(tokens=4096, reference=1024), 2.0),
        # FLUX.1's end points: mu is 0.5 at 256 tokens and 1.15 at 4,096.
        (FluxShifted(tokens=256), 1.6487212707),
        (FluxShifted(tokens=4096), 3.1581929097),
        # Between them mu is linear: 0.63.
        (FluxShifted(tokens=1024), 1.8776105793),
    ],
)
def test_shifts_by_resolution_have_the_published_factors(base, factor):
    assert base.factor == pytest.approx(factor, rel=1e-9)


def test_cosmap_gives_flow_the_log_snrs_of_the_cosine_schedule():
    # Nichol & Dhariwal 2021 with s = 0: alpha = cos(pi u / 2), sigma = sin(pi u / 2).
    u, flow = inner(), FlowTimes()
    cosine = 2 * torch.log(torch.cos(math.pi * u / 2) / torch.sin(math.pi * u / 2))
    assert torch.allclose(flow.log_snr(level_of(CosMap(), u, flow)), cosine, atol=1e-9)
