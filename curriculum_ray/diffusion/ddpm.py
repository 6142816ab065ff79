"""DDPM (Ho et al. 2020) with epsilon, x0 or v prediction, and generation by DDIM (Song et al. 2021)."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from curriculum_ray.config import Spec
from curriculum_ray.diffusion.betas import BetaSchedule, alphas_cumprod
from curriculum_ray.diffusion.levels import DiscreteTimesteps
from curriculum_ray.diffusion.process import PURE_NOISE, Predict, Process, broadcast, normal_like

__all__ = ["DDPM", "DDPMSpec", "spaced_timesteps", "trailing_timesteps"]

_LARGEST_NOISE = 20.0


class DDPMSpec(Spec):
    """A denoising diffusion probabilistic model in discrete time."""

    kind: Literal["ddpm"] = "ddpm"
    """The process: ddpm."""

    betas: BetaSchedule = "cosine"
    """How noise grows with the timestep: linear (1e-4 to 0.02), scaled_linear (Stable Diffusion's) or cosine."""

    num_timesteps: int = Field(default=1000, ge=2, le=100_000)
    """T: timesteps run from 0 (cleanest) to T-1 (noise)."""

    prediction: Literal["epsilon", "x0", "v"] = "epsilon"
    """What the network predicts: the noise, the item, or v = alpha·noise - sigma·x0."""

    zero_terminal_snr: bool = False
    """Whether the betas are rescaled so that the last timestep is pure noise (Lin et al. 2024)."""

    @model_validator(mode="after")
    def _defined_without_signal(self) -> Self:
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "process.zero_terminal_snr needs the prediction v or x0, because at SNR 0 the noise does not "
                "determine x0, but got epsilon"
            )
        return self


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
        self.trailing = spec.zero_terminal_snr
        alphas = alphas_cumprod(spec.betas, spec.num_timesteps, spec.zero_terminal_snr)
        self.levels = DiscreteTimesteps(alphas)
        # The log-SNR of pure noise is minus infinity: the range ends at its finite neighbour.
        last = spec.num_timesteps - (2 if spec.zero_terminal_snr else 1)
        noisiest, cleanest = self.levels.log_snr(torch.tensor([last, 0])).tolist()
        self.log_snr_range = noisiest, cleanest
        self.register_buffer("alpha", alphas.sqrt().float(), persistent=False)
        self.register_buffer("sigma", (1 - alphas).sqrt().float(), persistent=False)

    def _alpha_sigma(self, levels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        return broadcast(self.alpha[levels], like), broadcast(self.sigma[levels], like)

    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, t as float, and noise, x0 or v = alpha_t·noise - sigma_t·x0 (Salimans & Ho 2022, §4)."""
        alpha, sigma = self._alpha_sigma(levels, x0)
        x = alpha * x0 + sigma * noise
        if self.prediction == "epsilon":
            target = noise
        elif self.prediction == "x0":
            target = x0
        else:
            target = alpha * noise - sigma * x0
        return x, levels.float(), target

    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """See `Process.error_scales`; squared errors of x0, noise and v have the ratio 1 : SNR : SNR + 1."""
        if self.prediction == "epsilon":
            return torch.zeros_like(log_snr), -log_snr
        if self.prediction == "x0":
            return log_snr, torch.zeros_like(log_snr)
        return logsigmoid(log_snr), logsigmoid(-log_snr)

    def levels_of(self, noise_cond: Tensor) -> Tensor:
        """See `Process.levels_of`."""
        return noise_cond.round().long()

    def x0_of(self, output: Tensor, x: Tensor, levels: Tensor) -> Tensor:
        """See `Process.x0_of`; x is x_t."""
        alpha, sigma = self._alpha_sigma(levels, x)
        if self.prediction == "epsilon":
            return (x - sigma * output) / alpha
        if self.prediction == "x0":
            return output
        return alpha * x - sigma * output

    def _sample(
        self,
        predict: Predict,
        noise: Tensor,
        sampler: str,
        steps: int,
        generator: torch.Generator | None,
        clip: bool,
    ) -> Tensor:
        """Sample in `steps` evenly spaced timesteps, `steps` in 1 .. T (Song et al. 2021, Eq. 12 and 16).

        "ddim" is deterministic (eta = 0), "ancestral" adds the noise of DDPM's posterior (eta = 1).
        """
        eta = {"ddim": 0.0, "ancestral": 1.0}[sampler]
        timesteps = self.visited(steps, clip)
        alphas, sigmas = self.alpha[timesteps], self.sigma[timesteps]
        if not clip:
            # `noise` contains no data: see `Process.generate`.
            alphas[0], sigmas[0] = 0.0, 1.0
        x = noise
        for i, t in enumerate(timesteps[:-1]):
            x0 = self._denoise(predict, x, t, clip)
            epsilon = (x - alphas[i] * x0) / sigmas[i]
            alpha, sigma = alphas[i + 1], sigmas[i + 1]
            added = eta * sigma / sigmas[i] * (1 - (alphas[i] / alpha) ** 2).sqrt()
            # Rounding may leave a slightly negative value.
            x = alpha * x0 + (sigma**2 - added**2).clamp(min=0).sqrt() * epsilon
            if eta:
                x = x + added * normal_like(x, generator)
        return self._denoise(predict, x, timesteps[-1], clip)

    def noisiest(self, clip: bool) -> int:
        """See `Process.noisiest`.

        With predicted noise, x0 = (x - sigma·noise) / alpha amplifies the network's error by sigma / alpha,
        i.e. by thousands at the end of cosine betas. If x0 is not clipped, sampling therefore starts at the
        noisiest timestep with sigma / alpha <= 20, which is between the largest noise of Stable Diffusion's
        betas, 14.6, and that of EDM's sampler, 80. Predictions of x0 and v have no such factor.
        """
        if self.prediction == "epsilon" and not clip:
            return int((self.sigma <= _LARGEST_NOISE * self.alpha).sum()) - 1
        return len(self.alpha) - 1

    def protocol(self, sampler: str, clip: bool) -> dict[str, Any]:
        """See `Process.protocol`: the first timestep, unless it is the noisiest, and the initial noise."""
        noisiest, last = self.noisiest(clip), len(self.alpha) - 1
        return {
            **({} if noisiest == last else {"noisiest_timestep": noisiest}),
            # At zero terminal SNR, the noisiest timestep is pure noise anyway.
            **({} if clip or self.trailing else PURE_NOISE),
        }

    def visited(self, steps: int, clip: bool) -> list[int]:
        """Return the timesteps, at most `steps` of them, that a sampler visits from `noisiest` down."""
        if self.trailing:
            return trailing_timesteps(len(self.alpha), steps)
        _check_steps(len(self.alpha), steps)
        count = self.noisiest(clip) + 1
        return spaced_timesteps(count, min(steps, count))

    def _denoise(self, predict: Predict, x: Tensor, t: int, clip: bool) -> Tensor:
        """Return the network's estimate of x0 from x_t."""
        level = torch.full((len(x),), t, device=x.device)
        return self._denoised(predict, x, level.float(), level, clip)


def spaced_timesteps(count: int, steps: int) -> list[int]:
    """Return `steps` evenly spaced timesteps from count-1 (noise) down to 0 (cleanest), without repetition.

    Nichol & Dhariwal 2021, §4; a single step is the noisiest timestep.
    """
    _check_steps(count, steps)
    return torch.linspace(count - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def trailing_timesteps(count: int, steps: int) -> list[int]:
    """Return `steps` timesteps from count-1 (noise) down, count/steps apart; at the last, x0 is estimated.

    Lin et al. 2024, Table 2: timestep count-1, where a sample is pure noise, is always visited.
    """
    _check_steps(count, steps)
    return [round(count - i * count / steps) - 1 for i in range(steps)]


def _check_steps(count: int, steps: int) -> None:
    if not 1 <= steps <= count:
        raise ValueError(f"steps must be between 1 and {count}, the number of timesteps, but got {steps}")
