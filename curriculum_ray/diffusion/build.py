"""Build a process with its loss weighting from settings."""

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
    | fixed.DebiasedEstimation
    | fixed.SigmaSqrt
    | fixed.CosMap
    | EDM2Uncertainty
    | IntervalUncertaintySpec,
    Field(discriminator="kind"),
]

# Assumed for images in [-1, 1] if no setting gives it (Karras et al. 2022, Table 1).
_SIGMA_DATA = 0.5
# Mean and standard deviation of ln sigma over EDM's training levels (ibid.).
_LOG_SIGMA = -1.2, 1.2


def build_process(spec: ProcessSpec, weighting: WeightingSpec | None = None) -> Process:
    """Build the process of `spec` with a loss weighting, by default none.

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
        case EDM2Uncertainty(channels=channels):
            return ContinuousUncertainty(channels, process.log_snr_range)
        case IntervalUncertaintySpec(intervals=intervals):
            return IntervalUncertainty(_edges(intervals, process))
        case fixed.SoftMinSNR(gamma=None):
            sigma_data = process.spec.sigma_data if isinstance(process, EDM) else _SIGMA_DATA
            spec = fixed.SoftMinSNR(gamma=sigma_data**-2)
    return fixed.FixedWeighting(spec, process.error_scales)


def _edges(intervals: int | tuple[float, ...], process: Process) -> Tensor:
    """Return the ascending log-SNRs between the intervals; each interval must contain noise levels."""
    edges = (
        _even_edges(intervals, process)
        if isinstance(intervals, int)
        else torch.tensor(intervals, dtype=torch.float64)
    )
    if process.levels.count is not None:
        every = process.levels.log_snr(torch.arange(process.levels.count))
        held = torch.bincount(torch.bucketize(every, edges, right=True), minlength=len(edges) + 1)
        if int(held.min()) == 0:
            low, high = process.log_snr_range
            raise ConfigError(
                f"weighting.intervals must each hold a timestep, but got {intervals} for "
                f"{process.levels.count} timesteps with log-SNR {low:.3g} to {high:.3g}"
            )
    return edges


def _even_edges(count: int, process: Process) -> Tensor:
    """Return the ascending log-SNRs between equally populated intervals; see `IntervalUncertaintySpec`."""
    levels, parts = process.levels, torch.arange(count - 1, 0, -1)
    if levels.count is not None:
        # An edge belongs to the cleaner side: it is that side's last timestep, if it has any.
        return levels.log_snr((levels.count * parts // count - 1).clamp(min=0))
    shares = parts.double() / count
    if isinstance(process, EDM):
        mean, std = _LOG_SIGMA
        return levels.log_snr((mean + std * torch.special.ndtri(shares)).exp())
    return levels.log_snr(levels.from_time(shares))
