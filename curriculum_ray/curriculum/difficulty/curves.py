"""From measurements without a model to difficulty curves, which clusters and orders can name.

Levels that a process has, or T equally likely ones of its base distribution, are called timesteps here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from curriculum_ray.curriculum.base import BaseSpec, Uniform
from curriculum_ray.curriculum.curve import DifficultyCurve
from curriculum_ray.curriculum.difficulty.monte_carlo import RelativeEntropy

__all__ = ["gaussian_curve", "relative_entropy_curve", "snr_curve"]

# The base distribution whose u is t/T.
_UNIFORM = Uniform()


def relative_entropy_curve(
    measured: RelativeEntropy,
    num_timesteps: int,
    *,
    data: str,
    process: str,
    base: BaseSpec = _UNIFORM,
    meta: dict[str, Any] | None = None,
) -> DifficultyCurve:
    """One bin per timestep t = 0 … T-1 (0 is the cleanest), with the nats between levels t-1 and t.

    Timesteps that were not measured are interpolated, both values and errors, over log t: in the logarithm
    where all values are positive, linearly otherwise. t = 0 takes the value of t = 1: its relative
    entropy to the data is infinite for a finite set. `meta` records the estimator of each measured timestep.

    Raises ValueError where timesteps lie outside 1 … T-1.
    """
    last = num_timesteps - 1
    if int(measured.timesteps[-1]) > last:
        raise ValueError(f"timesteps must lie in 1 … {last}, but got {int(measured.timesteps[-1])}")
    at = torch.arange(num_timesteps).clamp_min(1).double().log()
    known = measured.timesteps.double().log()
    value = _interpolate(at, known, measured.value)
    stderr = _interpolate(at, known, measured.stderr)
    runs: dict[str, list[int]] = {}
    for t, name in zip(measured.timesteps.tolist(), measured.estimator, strict=True):
        runs.setdefault(name, []).append(t)
    return DifficultyCurve(
        kind="relative_entropy",
        data=data,
        process=process,
        base=base,
        u=_timestep_edges(num_timesteps),
        difficulty=tuple(value.tolist()),
        stderr=tuple(stderr.tolist()),
        meta={
            "unit": "nats between t-1 and t",
            "method": "monte_carlo",
            "samples": measured.num_samples,
            "timesteps": measured.timesteps.tolist(),
            "estimator": runs,
            **(meta or {}),
        },
    )


def gaussian_curve(values: Tensor, *, data: str, process: str, base: BaseSpec = _UNIFORM) -> DifficultyCurve:
    """One bin per timestep t = 0 … T-1 (0 is the cleanest) from `gaussian_relative_entropy` at t = 1 … T-1.

    t = 0 takes the value of t = 1.
    """
    return DifficultyCurve(
        kind="relative_entropy",
        data=data,
        process=process,
        base=base,
        u=_timestep_edges(len(values) + 1),
        difficulty=(float(values[0]), *values.tolist()),
        meta={"unit": "nats between t-1 and t", "method": "one Gaussian, closed form"},
    )


def snr_curve(
    signal: Tensor, noise_std: Tensor, *, data: str, process: str, base: BaseSpec = _UNIFORM
) -> DifficultyCurve:
    """log(s_t²/σ_t²) at each timestep t = 0 … T-1 (0 is the cleanest), without data; arguments (T,).

    Clipped to ±50: levels without noise or signal have an infinite log-SNR, and a difficulty is finite.
    """
    log_snr = (2 * (signal.double().log() - noise_std.double().log())).clamp(-50, 50)
    return DifficultyCurve(
        kind="snr",
        data=data,
        process=process,
        base=base,
        u=_timestep_edges(len(log_snr)),
        difficulty=tuple(log_snr.tolist()),
        meta={"unit": "log-SNR"},
    )


def _timestep_edges(count: int) -> tuple[float, ...]:
    return tuple(t / count for t in range(count + 1))


def _interpolate(at: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (known, values), `known` ascending; constant beyond the ends; float64 (len(at),)."""
    positive = bool((values > 0).all())
    heights = values.log() if positive else values
    mixed = torch.from_numpy(np.interp(at.numpy(), known.numpy(), heights.numpy()))
    return mixed.exp() if positive else mixed
