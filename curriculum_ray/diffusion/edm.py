"""EDM: a preconditioned network over continuous noise levels, and Heun's method (Karras et al. 2022)."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.levels import Sigmas
from curriculum_ray.diffusion.ode import solve
from curriculum_ray.diffusion.process import PURE_NOISE, Predict, Process, broadcast, normal_like

__all__ = ["EDM", "EDMSpec", "generation_sigmas"]


class EDMSpec(Spec):
    """Noise of any standard deviation, and a network that predicts a blend of image and noise."""

    kind: Literal["edm"] = "edm"
    """The process: edm."""

    sigma_data: float = Field(default=0.5, gt=0, le=10)
    """Standard deviation of the data's pixels, as assumed by the preconditioning."""

    sigma_min: float = Field(default=0.002, gt=0)
    """Cleanest noise level that generation visits."""

    sigma_max: float = Field(default=80.0, le=1e5)
    """Noisiest noise level, where generation starts."""

    rho: float = Field(default=7.0, ge=1, le=100)
    """How much denser generation's noise levels are at the clean end; 1 is even."""

    churn: float = Field(default=40.0, ge=0)
    """S_churn of the stochastic sampler: how much noise all steps add and remove again; 0 is heun."""

    churn_min: float = Field(default=0.05, ge=0)
    """S_tmin: the cleanest noise level to which the stochastic sampler adds noise."""

    churn_max: float = Field(default=50.0, gt=0)
    """S_tmax: the noisiest noise level to which the stochastic sampler adds noise."""

    churn_noise: float = Field(default=1.003, gt=0, le=2)
    """S_noise: factor on the standard deviation of the noise that the stochastic sampler adds."""

    @model_validator(mode="after")
    def _sigmas_rise(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"process.sigma_min must be below sigma_max = {self.sigma_max}, but got {self.sigma_min}"
            )
        if self.churn_min >= self.churn_max:
            raise ValueError(
                f"process.churn_min must be below churn_max = {self.churn_max}, but got {self.churn_min}"
            )
        return self


class EDM(Process):
    """x = x0 + sigma·noise, D(x) = c_skip·x + c_out·F(c_in·x) (Karras et al. 2022, Eq. 7 and Table 1).

    Levels are sigma > 0, large is noise. The network F takes c_in·x and `noise_cond` = 250·ln(sigma), which
    is 1000 times the paper's c_noise. Its unweighted squared error is the paper's loss with lambda =
    1/c_out².
    """

    samplers = ("heun", "euler", "stochastic")

    def __init__(self, spec: EDMSpec) -> None:
        super().__init__("edm")
        self.spec = spec
        self.levels = Sigmas()
        self.log_snr_range = -2 * math.log(spec.sigma_max), -2 * math.log(spec.sigma_min)

    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_in·x, 250·ln(sigma), and (x0 - c_skip·x)/c_out = c_in·(sigma·x0/sigma_data - sigma_data·n)."""
        sigma, data = broadcast(levels, x0).to(x0.dtype), self.spec.sigma_data
        c_in = self._c_in(sigma)
        return c_in * (x0 + sigma * noise), 250 * levels.log(), c_in * (sigma / data * x0 - data * noise)

    def levels_of(self, noise_cond: Tensor) -> Tensor:
        """See `Process.levels_of`."""
        return (noise_cond / 250).exp()

    def x0_of(self, output: Tensor, x: Tensor, levels: Tensor) -> Tensor:
        """See `Process.x0_of`; x is c_in times the noisy image: c_skip/c_in = sigma_data²·c_in."""
        sigma, data = broadcast(levels, x), self.spec.sigma_data
        return self._c_in(sigma) * data * (data * x + sigma * output)

    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.error_scales`; c_out² = sigma²·sigma_data² / (sigma² + sigma_data²)."""
        log_variance = 2 * math.log(self.spec.sigma_data)
        ratio = log_snr + log_variance
        return logsigmoid(ratio), log_variance + logsigmoid(-ratio)

    def _c_in(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.spec.sigma_data**2).rsqrt()

    def protocol(self, sampler: str, clip: bool) -> dict[str, Any]:
        """See `Process.protocol`: the noise that the stochastic sampler adds, the initial noise, unusual sigmas."""
        start: dict[str, Any] = {} if clip else {**PURE_NOISE}
        grid = ("sigma_min", "sigma_max", "rho")
        if any(getattr(self.spec, name) != type(self.spec).model_fields[name].default for name in grid):
            start["sigmas"] = [getattr(self.spec, name) for name in grid]
        if sampler != "stochastic":
            return start
        churn = self.spec.model_dump(include={"churn", "churn_min", "churn_max", "churn_noise"})
        return {**start, "churn": churn}

    def noisiest(self, clip: bool) -> float:
        """See `Process.noisiest`: sigma_max."""
        return self.spec.sigma_max

    def _sample(
        self,
        predict: Predict,
        noise: Tensor,
        sampler: str,
        steps: int,
        generator: torch.Generator | None,
        clip: bool,
    ) -> Tensor:
        """Solve dx/dsigma = (x - D(x)) / sigma from sigma_max to 0; heun calls the network twice per step.

        "stochastic" is heun with noise added before each step (Karras et al. 2022, Alg. 2).
        """

        def denoised(x: Tensor, sigma: float) -> Tensor:
            level = torch.full((len(x),), sigma, device=x.device)
            scaled = x * self._c_in(broadcast(level, x))
            return self._denoised(predict, scaled, 250 * level.log(), level, clip)

        def slope(x: Tensor, sigma: float) -> Tensor:
            return (x - denoised(x, sigma)) / sigma

        spec, sigmas = self.spec, generation_sigmas(self.spec, steps)
        x, first = sigmas[0] * noise, None
        if not clip:
            # From infinite sigma, where x is pure noise, to the first level along dx/dsigma = noise.
            x, first = x + denoised(x, sigmas[0]), noise
        if sampler != "stochastic":
            return solve(slope, x, sigmas, heun=sampler == "heun", first=first)
        gamma = min(spec.churn / steps, math.sqrt(2) - 1)
        for sigma, after in itertools.pairwise(sigmas):
            raised = sigma
            if gamma and spec.churn_min <= sigma <= spec.churn_max:
                raised, first = sigma * (1 + gamma), None
                added = spec.churn_noise * math.sqrt(raised**2 - sigma**2)
                x = x + added * normal_like(x, generator)
            x, first = solve(slope, x, (raised, after), heun=True, first=first), None
        return x


def generation_sigmas(spec: EDMSpec, steps: int) -> list[float]:
    """Return `steps` noise levels from sigma_max (noise) to sigma_min, and 0 (Karras et al. 2022, Eq. 5)."""
    low, high = (sigma ** (1 / spec.rho) for sigma in (spec.sigma_min, spec.sigma_max))
    return [*((high + i / max(steps - 1, 1) * (low - high)) ** spec.rho for i in range(steps)), 0.0]
