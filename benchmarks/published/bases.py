"""Base distributions: quantile function and probability, by SciPy's distributions or by integrating the density."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

from curriculum_ray.curriculum.base import (
    Asymmetric,
    Beta,
    CosMap,
    FluxShifted,
    LaplaceLogSnr,
    LogitNormal,
    LogNormalSigma,
    Mode,
    Normal,
    Quantile,
    Shifted,
    SqrtShifted,
    Uniform,
)
from curriculum_ray.curriculum.cells import boundaries
from curriculum_ray.diffusion import DDPMSpec, build_process
from published import Check, row

U = np.array([0.003, 0.05, 0.2, 0.5, 0.77, 0.95, 0.999])


def logit_normal_density(t: float, mean: float, std: float) -> float:
    """Esser et al. 2024, §3.1."""
    z = (math.log(t / (1 - t)) - mean) / std
    return math.exp(-z * z / 2) / (std * math.sqrt(2 * math.pi) * t * (1 - t))


def mode(noise: float, scale: float) -> float:
    """The time for an even draw, as the paper writes it: f_mode(u) of Esser et al. 2024, §3.1."""
    return 1 - noise - scale * (math.cos(math.pi / 2 * noise) ** 2 - 1 + noise)


def by_density(density: Callable[[float], float]) -> Callable[[float], float]:
    """The probability below a time, by quadrature."""
    return lambda value: quad(density, 0, value, epsabs=1e-12, limit=200)[0]


def unshifted(shift: Callable[[float], float]) -> Callable[[float], float]:
    """The time that is shifted to a given one, by root finding."""
    return lambda value: brentq(lambda t: shift(t) - value, 0, 1, xtol=1e-15) if 0 < value < 1 else value


# FLUX.1's line through 0.5 at 256 tokens and 1.15 at 4,096.
FLUX_MU = float(np.interp(1000, [256, 4096], [0.5, 1.15]))

# The base, where it was published, and P(cleaner than a value) computed without the package.
PUBLISHED: list[tuple[Quantile, str, Callable[[float], float]]] = [
    (Uniform(), "Ho et al. 2020, Alg. 1", stats.uniform.cdf),
    (Beta(alpha=0.8), "B-TTDM, Zheng et al. 2024", stats.beta(0.8, 1).cdf),
    (LaplaceLogSnr(loc=0.3, scale=0.5), "Hang et al. 2024, 2407.03297", stats.laplace(0.3, 0.5).sf),
    (LogNormalSigma(), "Karras et al. 2022, Table 1", stats.lognorm(1.2, scale=math.exp(-1.2)).cdf),
    (
        LogNormalSigma(mean=-0.4, std=1.0),
        "Karras et al. 2024 (EDM2)",
        stats.lognorm(1, scale=math.exp(-0.4)).cdf,
    ),
    (
        LogitNormal(mean=-0.5, std=0.8),
        "Esser et al. 2024, §3.1",
        by_density(lambda t: logit_normal_density(t, -0.5, 0.8) if 0 < t < 1 else 0.0),
    ),
    (
        CosMap(),
        "Esser et al. 2024, §3.1",
        by_density(lambda t: 2 / (math.pi - 2 * math.pi * t + 2 * math.pi * t * t)),
    ),
    (
        Asymmetric(k=5, tau=0.7),
        "Wang et al. 2024, 2405.17403",
        lambda t: quad(lambda v: 5.0 if v < 0.7 else 1.0, 0, t, points=[0.7])[0] / (5 * 0.7 + 0.3),
    ),
    (Normal(mean=0.3, std=0.3), "a normal cut to [0, 1)", stats.truncnorm(-1, 7 / 3, loc=0.3, scale=0.3).cdf),
    (Shifted(shift=3.0), "Esser et al. 2024, §5.3.2", unshifted(lambda t: 3 * t / (1 + 2 * t))),
    (
        Shifted(shift=0.5, of=Beta(alpha=2)),
        "Esser et al. 2024, §5.3.2",
        lambda v: stats.beta(2, 1).cdf(unshifted(lambda t: 0.5 * t / (1 - 0.5 * t))(v)),
    ),
    (
        SqrtShifted(tokens=1024, reference=256),
        "Esser et al. 2024, Eq. 23",
        unshifted(lambda t: math.sqrt(4) * t / (1 + (math.sqrt(4) - 1) * t)),
    ),
    (
        FluxShifted(tokens=1000),
        "flux, time_shift",
        unshifted(lambda t: math.exp(FLUX_MU) / (math.exp(FLUX_MU) + 1 / t - 1) if t > 0 else 0.0),
    ),
    *(
        (
            Mode(scale=scale),
            "Esser et al. 2024, §3.1",
            # f_mode falls with the paper's u: P(f < t) = P(u > f⁻¹(t)).
            lambda t, scale=scale: 1 - brentq(lambda u: mode(u, scale) - t, 0, 1, xtol=1e-15),
        )
        for scale in (1.29, -0.5)
    ),
]


def name_of(base: Quantile) -> str:
    """The kind and its numbers."""
    return " ".join([base.kind, *(f"{value:g}" for _, value in base if isinstance(value, int | float))])


def checks() -> Iterator[Check]:
    """Quantile function, its inverse, and the timesteps that are drawn."""
    u = torch.tensor(U)
    for base, source, below in PUBLISHED:
        name = name_of(base)
        values = base.quantile(u)
        yield row(f"{name}: quantiles", source, [below(value) for value in values.tolist()], U, 1e-8)
        yield row(
            f"{name}: probabilities", source, base.cdf(values), [below(v) for v in values.tolist()], 1e-8
        )
    levels = build_process(DDPMSpec(num_timesteps=50)).levels
    log_snr = levels.log_snr(torch.arange(50)).numpy()
    for base, source, below in PUBLISHED:
        if base.domain == "time":
            ends = [below(t / 50) for t in range(51)]
        else:
            # A timestep stands for the log-SNRs that are nearest to its own.
            middles = (log_snr[1:] + log_snr[:-1]) / 2
            inner = middles if base.domain == "log_snr" else np.exp(-middles / 2)
            ends = [0.0, *(float(below(value)) for value in inner), 1.0]
        name = name_of(base)
        yield row(f"{name}: 50 timesteps", source, boundaries(base, levels).diff(), np.diff(ends), 1e-6, 1e-6)
