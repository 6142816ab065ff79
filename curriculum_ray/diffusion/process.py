"""What every diffusion process offers: a training loss at given noise levels, and generation from noise."""

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
"""What `Process.protocol` adds where sampling starts from more noise than the noisiest level has."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""A network with its condition fixed: (x (B,*shape), noise_cond (B,)) -> (B,*shape)."""


class Denoiser(Protocol):
    """A network (x (B,*shape), noise_cond (B,) float, condition (see `Conditioning`) or None) -> (B,*shape)."""

    def __call__(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor: ...


class Process(nn.Module, ABC):
    """A diffusion process with its loss weighting.

    `noise_cond`, what the network is told of the noise level, rises with noise and spans some thousand units,
    so that one network serves all processes: DDPM the timestep t (0 .. T-1), flow matching 1000·t, EDM
    250·ln(sigma). The module's parameters are those of a learned weighting (most have none): they join the
    optimizer and the checkpoint. `to(device)` moves the process.
    """

    samplers: ClassVar[tuple[str, ...]]
    """The names that `generate` knows; the first is the default."""

    levels: NoiseLevels
    """How this process numbers its noise levels."""

    log_snr_range: tuple[float, float]
    """The lowest (noise) and highest (clean) log-SNR that matters, finite."""

    weighting: nn.Module
    """(raw losses (B,), log-SNR (B,), both infinities included) -> weighted losses (B,)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def corrupt(self, x0: Tensor, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise x0 to levels: the network's input (B,*shape), noise_cond (B,), target output (B,*shape)."""

    @abstractmethod
    def x0_of(self, output: Tensor, x: Tensor, levels: Tensor) -> Tensor:
        """The item that the network's output for its input x, all (B,*shape), at levels (B,) stands for."""

    @abstractmethod
    def error_scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """How a squared error of the network's output translates at log-SNRs (any shape; low is noise, as low as -inf).

        Returns the logs of the factors that make it a squared error of the noise, and of x0, same shape.
        """

    def _denoised(
        self, predict: Predict, x: Tensor, noise_cond: Tensor, levels: Tensor, clip: bool
    ) -> Tensor:
        """The network's estimate of x0 from its input x (B,*shape), within [-1, 1] where it is clipped."""
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
        """The noisiest level at which generation calls the network, one of `levels`; clip: see `generate`."""

    def protocol(self, sampler: str, clip: bool) -> dict[str, Any]:
        """What samples depend on beside the names of process and sampler and its steps, JSON-safe.

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
        clip: bool = True,
    ) -> Tensor:
        """Turn standard normal `noise` (B,*shape) into samples of the same shape.

        sampler: one of `samplers`, the first if None. steps: at least 1. generator: draws the noise that
        random samplers add, so that samples are a function of `noise` and its seed. condition: what the network
        is told, (B,...), or None. guidance: scale of classifier-free guidance, 1 is none. clip: keep each
        estimate of x0, and so the samples, within [-1, 1]; off for data without such bounds. The model is
        called as it is: switch it to evaluation mode first.

        The ordinary differential equation of a diffusion is dy/dr = E[x0 | y, r] for y = x / sigma and r = alpha /
        sigma (Song et al. 2021, Eq. 14), and y is standard normal at r = 0 alone. Published samplers take it to be so
        at the noisiest level r_1 > 0 too, which leaves the share r_1 of the data's mean out, in standard deviations of
        the data. With clip they do here as well; without it the first step goes from r = 0, with the network's estimate
        at the noisiest level: samples start from q(x) for any data, at no further call of the network.
        Settings that do not apply raise ValueError.
        """
        name = sampler or self.samplers[0]
        if name not in self.samplers:
            known = ", ".join(self.samplers)
            raise ValueError(f"sampler must be one of {known} for {self.name}, but got {name!r}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, but got {steps}")
        return self._sample(guided(model, condition, guidance), noise, name, steps, generator, clip)

    def losses(
        self, model: Denoiser, x0: Tensor, levels: Tensor, noise: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Per-sample losses of `model` on items noised to `levels`.

        x0: items, images in [-1, 1], (B,*shape). levels: native noise levels, (B,). noise: standard normal,
        (B,*shape). condition: what the network is told, or None. Returns the weighted losses (B,), to be averaged and
        backpropagated, and the unweighted mean squared errors (B,), detached; both float32.
        """
        x, noise_cond, target = self.corrupt(x0, levels, noise)
        return self.compare(model(x, noise_cond, condition), target, levels)

    def compare(self, output: Tensor, target: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """What `losses` returns, of a network's output beside its target, both (B,*shape), at levels (B,)."""
        raw = (output.float() - target.float()).square().flatten(1).mean(1)
        return self.weighting(raw, self.levels.log_snr(levels).float()), raw.detach()


class Objective(nn.Module):
    """A model together with its process as one module.

    Wrap this one in DistributedDataParallel where the weighting is learned: its gradients are averaged too.
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


def guided(model: Denoiser, condition: Tensor | None, guidance: float) -> Predict:
    """`model` with its condition fixed and guided by them (Ho & Salimans 2022, Eq. 6, guidance = 1 + w)."""
    if guidance == 1:
        return lambda x, noise_cond: model(x, noise_cond, condition)
    if condition is None:
        raise ValueError(f"guidance needs a condition, but got none with guidance {guidance}")

    def predict(x: Tensor, noise_cond: Tensor) -> Tensor:
        without = model(x, noise_cond, None)
        return without + guidance * (model(x, noise_cond, condition) - without)

    return predict


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """`values` (B,) as (B,1,…,1), so that they apply to each of the B items of `like` (B,*shape)."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise like `x`, drawn where the generator lives."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
