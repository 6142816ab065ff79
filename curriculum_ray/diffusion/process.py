"""The interface of a diffusion process: a training loss at given noise levels, and generation from noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["PURE_NOISE", "Denoiser", "Objective", "Predict", "Process", "broadcast", "guided", "normal_like"]

PURE_NOISE: Mapping[str, str] = MappingProxyType({"start": "pure noise"})
"""Added by `Process.protocol` if sampling starts from more noise than the noisiest level has."""

# Of a sigma that went through a float32 noise_cond, relative.
_ROUNDING = 1e-5

Predict = Callable[[Tensor, Tensor], Tensor]
"""A network with its condition fixed: (x (B,*shape), noise_cond (B,)) -> (B,*shape)."""


class Denoiser(Protocol):
    """A network (x (B,*shape), noise_cond (B,) float, condition (see `Conditioning`) or None) -> (B,*shape)."""

    def __call__(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor: ...


class Process(nn.Module, ABC):
    """A diffusion process with its loss weighting.

    `noise_cond`, the noise level as the network takes it, rises with noise and spans about a thousand units,
    so that one network serves all processes: the timestep t (0 .. T-1) for DDPM, 1000·t for flow matching,
    250·ln(sigma) for EDM. The module's parameters are those of a learned weighting (most have none), which
    belong to the optimizer and the checkpoint. `to(device)` moves the process.
    """

    samplers: ClassVar[tuple[str, ...]]
    """The samplers that `generate` supports; the first is the default."""

    levels: NoiseLevels
    """How this process numbers its noise levels."""

    log_snr_range: tuple[float, float]
    """The lowest (noise) and highest (clean) relevant log-SNR, both finite."""

    weighting: nn.Module
    """(raw losses (B,), log-SNR (B,), possibly infinite) -> weighted losses (B,)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise x0; return the network's input (B,*shape), noise_cond (B,) and target (B,*shape)."""

    @abstractmethod
    def levels_of(self, noise_cond: Tensor) -> Tensor:
        """Convert noise_cond (B,) back to native noise levels (B,)."""

    @abstractmethod
    def x0_of(self, output: Tensor, x: Tensor, levels: Tensor) -> Tensor:
        """Convert the network's output for input x at levels (B,) to an estimate of x0; all (B,*shape)."""

    @abstractmethod
    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logs of the factors from the network's squared error to those of the noise and of x0.

        log_snr: any shape, low is noise, -inf is allowed; the results have its shape.
        """

    def _denoised(
        self, predict: Predict, x: Tensor, noise_cond: Tensor, levels: Tensor, clip: bool
    ) -> Tensor:
        """Return the network's estimate of x0 from its input x (B,*shape), within [-1, 1] if `clip`."""
        x0 = self.x0_of(predict(x, noise_cond).to(x.dtype), x, levels)
        return x0.clamp(-1, 1) if clip else x0

    @abstractmethod
    def _sample(
        self,
        predict: Predict,
        noise: Tensor,
        sampler: str,
        steps: int,
        generator: torch.Generator | None,
        clip: bool,
    ) -> Tensor:
        """Solve from `noise` to samples; see `generate`. `predict` is the guided network."""

    @abstractmethod
    def noisiest(self, clip: bool) -> float:
        """Return the noisiest of `levels` at which generation calls the network; clip: see `generate`."""

    def protocol(self, sampler: str, clip: bool) -> dict[str, Any]:
        """Return, as JSON values, what samples depend on besides process, sampler and number of steps.

        clip: see `generate`.
        """
        return {}

    @torch.no_grad()
    def generate(
        self,
        model: Denoiser,
        noise: Tensor,
        *,
        sampler: str | None = None,
        steps: int = 20,
        generator: torch.Generator | None = None,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        clip: bool = True,
    ) -> Tensor:
        """Turn standard normal `noise` (B,*shape) into samples of the same shape.

        sampler: one of `samplers`, the first if None. steps: at least 1. generator: draws the noise that
        stochastic samplers add, so that samples are a function of `noise` and its seed. condition: (B,...),
        or None. guidance: scale of classifier-free guidance, 1 is none. guidance_interval: the lowest and the
        highest noise at which it is guided, as standard deviations sigma of the noise on unscaled data
        (Kynkäänniemi et al. 2024, "Applying guidance in a limited interval", Eq. 6), everywhere if None. clip: keep
        each estimate of x0, and so the samples, within [-1, 1]; turn it off for unbounded data. The model's mode is
        not changed: switch it to evaluation first.

        The ODE of a diffusion is dy/dr = E[x0 | y, r] for y = x / sigma and r = alpha / sigma (Song et al.
        2021, Eq. 14), and y is standard normal only at r = 0. Published samplers assume this at the noisiest
        level r_1 > 0 too, which omits the share r_1 of the data's mean, in standard deviations of the data.
        With clip, so does this method; without it, the first step starts at r = 0 and uses the network's
        estimate at the noisiest level, so that samples start from q(x) for any data, at no extra call of the
        network. Settings that do not apply raise ValueError.
        """
        name = sampler or self.samplers[0]
        if name not in self.samplers:
            known = ", ".join(self.samplers)
            raise ValueError(f"sampler must be one of {known} for {self.name}, but got {name!r}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, but got {steps}")
        predict = guided(model, condition, guidance, guidance_interval, self._sigma)
        return self._sample(predict, noise, name, steps, generator, clip)

    def _sigma(self, noise_cond: Tensor) -> Tensor:
        """The noise at noise_cond (B,) as standard deviations on unscaled data, (B,)."""
        return (-self.levels.log_snr(self.levels_of(noise_cond)) / 2).exp()

    def losses(
        self, model: Denoiser, x0: Tensor, levels: Tensor, noise: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the per-sample losses of `model` on items noised to `levels`.

        x0: items, images in [-1, 1], (B,*shape). levels: native noise levels, (B,). noise: standard normal,
        (B,*shape). condition: (B,...), or None. Returns the weighted losses (B,), to be averaged and
        backpropagated, and the unweighted mean squared errors (B,), detached; both float32.
        """
        x, noise_cond, target = self.corrupt(x0, levels, noise)
        return self.compare(model(x, noise_cond, condition), target, levels)

    @staticmethod
    def errors(output: Tensor, target: Tensor) -> Tensor:
        """The mean squared errors of a network's output, float32 (B,), from it and its target, both (B,*shape)."""
        return (output.float() - target.float()).square().flatten(1).mean(1)

    def compare(self, output: Tensor, target: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `losses` from a network's output and its target, both (B,*shape), at levels (B,)."""
        raw = self.errors(output, target)
        return self.weighting(raw, self.levels.log_snr(levels).float()), raw.detach()


class Objective(nn.Module):
    """A model and its process as one module.

    Wrap it in DistributedDataParallel if the weighting is learned, so that its gradients are averaged too.
    """

    def __init__(self, process: Process, model: nn.Module) -> None:
        super().__init__()
        self.process = process
        self.model = model

    def forward(
        self, x0: Tensor, levels: Tensor, noise: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Process.losses`."""
        return self.process.losses(self.model, x0, levels, noise, condition)


def guided(
    model: Denoiser,
    condition: Tensor | None,
    guidance: float,
    interval: tuple[float, float] | None = None,
    sigma: Callable[[Tensor], Tensor] | None = None,
) -> Predict:
    """Fix the condition of `model`, and guide it (Ho & Salimans 2022, Eq. 6, guidance = 1 + w).

    interval: the lowest and highest sigma at which it is guided, both included, for which `sigma` converts noise_cond
    (B,) to (B,). All items of a batch are then at one noise level. ValueError where it does not rise from at least 0.
    """
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"guidance_interval must rise from at least 0, but got {interval}")
    if guidance == 1:
        return lambda x, noise_cond: model(x, noise_cond, condition)
    if condition is None:
        raise ValueError(f"guidance needs a condition, but got none with guidance {guidance}")

    def outside(noise_cond: Tensor) -> bool:
        if interval is None:
            return False
        assert sigma is not None
        # The float32 noise_cond of a level at an end may lie on either side of it.
        low, high = interval[0] * (1 - _ROUNDING), interval[1] * (1 + _ROUNDING)
        return not low <= sigma(noise_cond[:1]).item() <= high

    def predict(x: Tensor, noise_cond: Tensor) -> Tensor:
        if outside(noise_cond):
            return model(x, noise_cond, condition)
        unconditional = model(x, noise_cond, None)
        return unconditional + guidance * (model(x, noise_cond, condition) - unconditional)

    return predict


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `values` (B,) to (B,1,…,1), to apply them to the B items of `like` (B,*shape)."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal noise like `x`, on the generator's device."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
