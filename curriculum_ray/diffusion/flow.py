"""Flow matching along straight lines (Lipman et al. 2023; rectified flow, Liu et al. 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.levels import FlowTimes
from curriculum_ray.diffusion.ode import solve
from curriculum_ray.diffusion.process import Predict, Process, broadcast

__all__ = ["Flow", "FlowSpec"]

# The log-SNR at t = 0.001, and minus that at t = 0.999: limits of a range that is otherwise infinite.
MAX_LOG_SNR = 13.8


class FlowSpec(Spec):
    """Straight lines from item to noise, along which the network predicts the velocity."""

    kind: Literal["flow"] = "flow"
    """The process: flow."""


class Flow(Process):
    """x_t = (1-t)·x0 + t·noise with the velocity dx/dt = noise - x0 as target (Liu et al. 2023, Eq. 1).

    Levels are times t in [0, 1], 0 the image and 1 noise; `noise_cond` is 1000·t.
    """

    samplers = ("heun", "euler")

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__("flow")
        self.levels = FlowTimes()
        self.log_snr_range = -MAX_LOG_SNR, MAX_LOG_SNR

    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, 1000·t and noise - x0."""
        return torch.lerp(x0, noise, broadcast(levels, x0).to(x0.dtype)), 1000 * levels, noise - x0

    def levels_of(self, noise_cond: Tensor) -> Tensor:
        """See `Process.levels_of`."""
        return noise_cond / 1000

    def x0_of(self, output: Tensor, x: Tensor, levels: Tensor) -> Tensor:
        """See `Process.x0_of`; x is x_t: x0 = x_t - t·velocity."""
        return x - broadcast(levels, x) * output

    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.error_scales`; an error e of the velocity means (1-t)·e in the noise and t·e in x0."""
        return 2 * logsigmoid(log_snr / 2), 2 * logsigmoid(-log_snr / 2)

    def noisiest(self, clip: bool) -> float:
        """See `Process.noisiest`: t = 1, pure noise."""
        return 1.0

    def _sample(
        self,
        predict: Predict,
        noise: Tensor,
        sampler: str,
        steps: int,
        generator: torch.Generator | None,
        clip: bool,
    ) -> Tensor:
        """Solve dx/dt = velocity from t = 1 to 0 in even steps; heun calls the network twice per step."""

        def slope(x: Tensor, t: float) -> Tensor:
            level = torch.full((len(x),), t, device=x.device)
            if not clip:
                return predict(x, 1000 * level).to(x.dtype)
            return (x - self._denoised(predict, x, 1000 * level, level, clip)) / t

        times = [1 - i / steps for i in range(steps)]
        return solve(slope, noise, [*times, 0.0], heun=sampler == "heun")
