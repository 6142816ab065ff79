"""From the settings of a process and its loss weighting to the process."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.diffusion import weighting as fixed
from curriculum_ray.diffusion.ddpm import DDPM, DDPMSpec
from curriculum_ray.diffusion.edm import EDM, EDMSpec
from curriculum_ray.diffusion.flow import Flow, FlowSpec
from curriculum_ray.diffusion.process import Process
from curriculum_ray.diffusion.uncertainty import (
    ContinuousUncertainty,
    EDM2Uncertainty,
    IntervalUncertainty,
    IntervalUncertaintySpec,
)

__all__ = ["ProcessSpec", "WeightingSpec", "build_process"]

ProcessSpec = Annotated[DDPMSpec | EDMSpec | FlowSpec, Field(discriminator="kind")]

WeightingSpec = Annotated[
    fixed.NoWeighting
    | fixed.MinSNR
    | fixed.SoftMinSNR
    | fixed.P2
    | EDM2Uncertainty
    | IntervalUncertaintySpec,
    Field(discriminator="kind"),
]


def build_process(spec: ProcessSpec, weighting: WeightingSpec | None = None) -> Process:
    """Make the process of `spec` with a loss weighting (none if not given).

    A weighting that does not apply to the process raises `ConfigError`.
    """
    process = _bare_process(spec)
    process.weighting = _build_weighting(weighting or fixed.NoWeighting(), process)
    return process


def _bare_process(spec: ProcessSpec) -> Process:
    match spec:
        case DDPMSpec():
            return DDPM(spec)
        case EDMSpec():
            return EDM(spec)
        case FlowSpec():
            return Flow(spec)


def _build_weighting(spec: WeightingSpec, process: Process) -> nn.Module:
    match spec:
        case fixed.NoWeighting():
            return fixed.Unweighted()
        case fixed.MinSNR(gamma=gamma):
            return fixed.FixedWeighting(lambda log_snr: fixed.min_snr(*process.error_scales(log_snr), gamma))
        case fixed.SoftMinSNR(gamma=gamma):
            return fixed.FixedWeighting(
                lambda log_snr: fixed.soft_min_snr(*process.error_scales(log_snr), gamma)
            )
        case fixed.P2(gamma=gamma, k=k):
            if process.name != "ddpm-epsilon":
                raise ConfigError(
                    f"weighting.kind p2 weights the error of epsilon: it needs ddpm with epsilon prediction, "
                    f"but the process is {process.name}"
                )
            return fixed.FixedWeighting(lambda log_snr: fixed.p2(log_snr, gamma, k))
        case EDM2Uncertainty(channels=channels):
            return ContinuousUncertainty(channels)
        case IntervalUncertaintySpec(intervals=intervals):
            return IntervalUncertainty(_edges(intervals, process))


def _edges(intervals: int | tuple[float, ...], process: Process) -> Tensor:
    """The log-SNRs between the intervals, rising; each interval must hold noise levels."""
    low, high = process.log_snr_range
    edges = (
        torch.linspace(low, high, intervals + 1, dtype=torch.float64)[1:-1]
        if isinstance(intervals, int)
        else torch.tensor(intervals, dtype=torch.float64)
    )
    if process.levels.count is not None:
        every = process.levels.log_snr(torch.arange(process.levels.count))
        held = torch.bincount(torch.bucketize(every, edges, right=True), minlength=len(edges) + 1)
        if int(held.min()) == 0:
            raise ConfigError(
                f"weighting.intervals must each hold a timestep, but got {intervals} for "
                f"{process.levels.count} timesteps with log-SNR {low:.3g} to {high:.3g}"
            )
    return edges
