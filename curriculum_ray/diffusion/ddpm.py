"""DDPM (Ho et al. 2020) with epsilon, x0 or v prediction, and generation by DDIM (Song et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.betas import BetaSchedule, alphas_cumprod
from curriculum_ray.diffusion.levels import DiscreteTimesteps
from curriculum_ray.diffusion.process import Denoiser, Process, guided, normal_like

__all__ = ["DDPM", "DDPMSpec", "spaced_timesteps"]


class DDPMSpec(Spec):
    """A denoising diffusion probabilistic model in discrete time."""

    kind: Literal["ddpm"] = "ddpm"
    """The process: ddpm."""

    betas: BetaSchedule = "cosine"
    """How noise grows with the timestep: linear (1e-4 to 0.02) or cosine."""

    num_timesteps: int = Field(default=1000, ge=2, le=100_000)
    """T: timesteps run from 0 (cleanest) to T-1 (noise)."""

    prediction: Literal["epsilon", "x0", "v"] = "epsilon"
    """What the network predicts: the noise, the image, or v = alpha·noise - sigma·x0."""


class DDPM(Process):
    """x_t = alpha_t·x0 + sigma_t·noise with alpha_t² = ᾱ_t, sigma_t² = 1 - ᾱ_t (Ho et al. 2020, Eq. 4).

    Levels are timesteps t, long, 0 (cleanest) .. T-1 (noise); `noise_cond` is t as float.
    """

    samplers = ("ddim", "ancestral")

    alpha: Tensor
    sigma: Tensor

    def __init__(self, spec: DDPMSpec) -> None:
        super().__init__(f"ddpm-{spec.prediction}")
        self.prediction = spec.prediction
        alphas = alphas_cumprod(spec.betas, spec.num_timesteps)
        self.levels = DiscreteTimesteps(alphas)
        noisiest, cleanest = self.levels.log_snr(torch.tensor([spec.num_timesteps - 1, 0])).tolist()
        self.log_snr_range = noisiest, cleanest
        self.register_buffer("alpha", alphas.sqrt().float(), persistent=False)
        self.register_buffer("sigma", (1 - alphas).sqrt().float(), persistent=False)

    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, t as float, and noise, x0 or v = alpha_t·noise - sigma_t·x0 (Salimans & Ho 2022, §4)."""
        alpha = self.alpha[levels].view(-1, 1, 1, 1)
        sigma = self.sigma[levels].view(-1, 1, 1, 1)
        x = alpha * x0 + sigma * noise
        if self.prediction == "epsilon":
            target = noise
        elif self.prediction == "x0":
            target = x0
        else:
            target = alpha * noise - sigma * x0
        return x, levels.float(), target

    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.error_scales`; squared errors of x0 : noise : v are as 1 : SNR : SNR + 1."""
        if self.prediction == "epsilon":
            return torch.zeros_like(log_snr), -log_snr
        if self.prediction == "x0":
            return log_snr, torch.zeros_like(log_snr)
        return logsigmoid(log_snr), logsigmoid(-log_snr)

    def _estimate_x0(self, output: Tensor, x: Tensor, t: int) -> Tensor:
        """The image that the network's output at x_t stands for."""
        if self.prediction == "epsilon":
            return (x - self.sigma[t] * output) / self.alpha[t]
        if self.prediction == "x0":
            return output
        return self.alpha[t] * x - self.sigma[t] * output

    @torch.no_grad()
    def generate(
        self,
        model: Denoiser,
        noise: Tensor,
        *,
        sampler: str | None = None,
        steps: int = 20,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        guidance: float = 1.0,
        clip: bool = True,
    ) -> Tensor:
        """See `Process.generate`; `steps` evenly spaced timesteps, 1 .. T.

        "ddim" is deterministic (eta = 0), "ancestral" adds the noise of DDPM's posterior (eta = 1), both by
        Song et al. 2021, Eq. 12 and 16.
        """
        eta = {"ddim": 0.0, "ancestral": 1.0}[self._checked(sampler, steps)]
        predict = guided(model, labels, guidance)
        timesteps = spaced_timesteps(len(self.alpha), steps)
        x = noise
        for t, t_next in zip(timesteps, [*timesteps[1:], None], strict=True):
            output = predict(x, torch.full((len(x),), float(t), device=x.device)).to(x.dtype)
            x0 = self._estimate_x0(output, x, t)
            if clip:
                x0 = x0.clamp(-1, 1)
            if t_next is None:
                return x0
            epsilon = (x - self.alpha[t] * x0) / self.sigma[t]
            alpha, sigma = self.alpha[t_next], self.sigma[t_next]
            added = eta * sigma / self.sigma[t] * (1 - (self.alpha[t] / alpha) ** 2).sqrt()
            x = alpha * x0 + (sigma**2 - added**2).sqrt() * epsilon
            if eta:
                x = x + added * normal_like(x, generator)
        raise AssertionError("there is always a last timestep")


def spaced_timesteps(count: int, steps: int) -> list[int]:
    """`steps` timesteps from count-1 (noise) down to 0 (cleanest), evenly spaced, without repetition.

    Nichol & Dhariwal 2021, §4; one step alone is the noisiest timestep.
    """
    if not 1 <= steps <= count:
        raise ValueError(f"steps must be between 1 and {count}, the number of timesteps, but got {steps}")
    return torch.linspace(count - 1, 0, steps, dtype=torch.float64).round().long().tolist()
