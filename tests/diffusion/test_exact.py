"""Exact denoisers of Gaussians and mixtures through every process and sampler: mean and variance within 1%."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, Process, ProcessSpec, build_process
from curriculum_ray.diffusion.process import Predict

ODE = ("ddim", "heun", "euler")
DDPMS = [
    *(DDPMSpec(betas=b, prediction=p) for b in ("linear", "cosine") for p in ("epsilon", "x0", "v")),
    *(
        DDPMSpec(betas=b, prediction=p, zero_terminal_snr=True)
        for b, p in (("linear", "v"), ("cosine", "v"), ("cosine", "x0"))
    ),
]
# The stochastic sampler's noise is a little too strong on purpose (Karras et al. 2022, App. E.2).
OTHERS = [
    (EDMSpec(), "heun", 100),
    (EDMSpec(), "euler", 1000),
    (EDMSpec(churn_noise=1), "stochastic", 400),
    (FlowSpec(), "heun", 100),
    (FlowSpec(), "euler", 1000),
]
CASES = [
    *((spec, "ddim", 1000) for spec in DDPMS),
    # The ancestral sampler takes finer steps for the same accuracy.
    *(
        (DDPMSpec(num_timesteps=2000, betas=b, prediction=p, zero_terminal_snr=zero), "ancestral", 2000)
        for b, p, zero in (("linear", "epsilon", False), ("cosine", "v", False), ("linear", "v", True))
    ),
    *OTHERS,
]


def _name(spec: ProcessSpec, sampler: str) -> str:
    said = (
        (spec.betas, spec.prediction, *["zero"] * spec.zero_terminal_snr)
        if spec.kind == "ddpm"
        else (spec.kind,)
    )
    return "-".join((*said, sampler))


IDS = [_name(spec, sampler) for spec, sampler, _ in CASES]


@dataclass(frozen=True)
class Mixtures:
    """Independent distributions, one a coordinate, of K Gaussians each: all tensors (coordinates, K), float64."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    @property
    def mean(self) -> Tensor:
        return (self.weights * self.means).sum(1)

    @property
    def variance(self) -> Tensor:
        return (self.weights * (self.stds**2 + self.means**2)).sum(1) - self.mean**2

    def denoise(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | alpha·x0 + sigma·noise = x] for x (n, coordinates)."""
        variance = alpha**2 * self.stds**2 + sigma**2
        off = x[..., None] - alpha * self.means
        mode = (self.weights.log() - variance.log() / 2 - off**2 / (2 * variance)).softmax(-1)
        return (mode * (self.means + alpha * self.stds**2 / variance * off)).sum(-1)


def gaussians(*moments: tuple[float, float]) -> Mixtures:
    means, stds = torch.tensor(moments, dtype=torch.float64).T[..., None]
    return Mixtures(torch.ones_like(means), means, stds)


GAUSSIANS = gaussians((2.0, 1.0), (-1.0, 0.5), (1.0, 2.0), (-5.0, 1.0))
MIXTURES = Mixtures(
    *torch.tensor(
        [[[0.3, 0.7], [-1.0, 2.5], [0.4, 0.6]], [[0.5, 0.5], [0.5, 2.5], [0.5, 0.3]]], dtype=torch.float64
    ).unbind(1)
)
# Within [-1, 1], where samples are clipped.
BOUNDED = Mixtures(
    *torch.tensor([[[0.3, 0.7], [-0.6, 0.5], [0.09, 0.12]], [[0.6, 0.4], [0.6, -0.3], [0.1, 0.15]]])
    .double()
    .unbind(1)
)


@dataclass
class Exact:
    """The best network of a process for data of `Mixtures`; remembers the first inputs and their levels."""

    process: Process
    data: Mixtures
    seen: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        cond = noise_cond[:1].double()
        level = {"timestep": cond.long(), "sigma": (cond / 250).exp(), "flow": cond / 1000}[
            self.process.levels.kind
        ]
        one = torch.ones(1, 1, dtype=torch.float64)
        # corrupt() is linear in (x0, noise): its coefficients are what it makes of (1, 0) and (0, 1).
        alpha, _, target_x0 = self.process.corrupt(one, level, 0 * one)
        sigma, _, target_noise = self.process.corrupt(0 * one, level, one)
        if len(self.seen) < 2:
            self.seen.append((x.double(), alpha, sigma))
        x0 = self.data.denoise(x.double(), alpha, sigma)
        noise = (x.double() - alpha * x0) / sigma
        return (target_x0 * x0 + target_noise * noise).to(x.dtype)


@dataclass
class Impulses:
    """In place of the noise that a sampler adds: draw number k is 1 in row k + 2, so that rows add up."""

    drawn: int = 0

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.zeros_like(x)
        noise[2 + self.drawn] = 1
        self.drawn += 1
        return noise


def responses(
    process: Process, model: Predict, sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """Samples of no noise at all (row 0), of the first noise alone (row 1), and of each added noise alone.

    A Gaussian's exact denoiser is affine, and so is its sampler: row 0 is the mean, and the squares of the other rows'
    distances from it add up to the variance, without a random number.
    """
    for module in ("ddpm", "edm"):
        monkeypatch.setattr(f"curriculum_ray.diffusion.{module}.normal_like", Impulses())
    noise = torch.zeros(2 if sampler in ODE else 2 + steps, len(GAUSSIANS.means))
    noise[1] = 1
    return process.generate(model, noise, sampler=sampler, steps=steps, clip=False).double()


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[0], (rows[1:] - rows[0]).square().sum(0)


def assert_within(found: tuple[Tensor, Tensor], data: Mixtures, share: float = 0.01) -> None:
    torch.testing.assert_close(found[0].double(), data.mean, rtol=share, atol=0)
    torch.testing.assert_close(found[1].double(), data.variance, rtol=share, atol=0)


# Of the betas that differ in nothing else, and of those whose SNR ends at zero, one by default.
ALIKE = [
    *(name for name in IDS if name.startswith("linear-") and "zero" not in name),
    *("cosine-v-zero-ddim", "cosine-x0-zero-ddim", "linear-v-zero-ancestral"),
]


ONE_OF_BETAS = [
    pytest.param(*case, id=name, marks=pytest.mark.slow if name in ALIKE else ())
    for name, case in zip(IDS, CASES, strict=True)
]

# Of the samplers that add noise, one: the Gaussians have all.
ONE_WITH_NOISE = [
    pytest.param(
        *case,
        id=name,
        marks=pytest.mark.slow
        if name in ALIKE or ("ancestral" in name and not name.startswith("cosine-epsilon"))
        else (),
    )
    for name, case in zip(IDS, CASES, strict=True)
]


@pytest.mark.parametrize(("spec", "sampler", "steps"), ONE_OF_BETAS)
def test_gaussians_come_back_with_their_mean_and_variance(
    spec: ProcessSpec, sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = build_process(spec)
    model = Exact(process, GAUSSIANS)
    assert_within(moments(responses(process, model, sampler, steps, monkeypatch)), GAUSSIANS)
    # The network's second input has the distribution q(x) of its level, too; the first is what is known of it.
    x, alpha, sigma = model.seen[1]
    mean, variance = moments(x)
    torch.testing.assert_close(mean, (alpha * GAUSSIANS.mean)[0], rtol=0.02, atol=2e-5)
    marginal = (alpha**2 * GAUSSIANS.variance + sigma**2)[0]
    torch.testing.assert_close(variance, marginal, rtol=0.02, atol=0)


@pytest.mark.parametrize("spec", DDPMS)
def test_two_hundred_steps_of_ddim_keep_the_mean(spec: DDPMSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    process = build_process(spec)
    mean, _ = moments(responses(process, Exact(process, GAUSSIANS), "ddim", 200, monkeypatch))
    torch.testing.assert_close(mean, GAUSSIANS.mean, rtol=0.003, atol=0)


def quantiles(u: Tensor) -> Tensor:
    """Those of the standard normal, float32."""
    return torch.special.ndtri(u).float()


@dataclass
class EvenNoise:
    """In place of the noise that a sampler adds: normal, even beside the rank of what it is added to.

    Array-RQMC (L'Ecuyer et al. 2008): with a Kronecker sequence over the sorted samples, the error of an average falls
    almost as fast as their number grows.
    """

    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def __call__(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        shift = torch.rand(x.shape[1], dtype=torch.float64, generator=self.generator)
        u = (x.argsort(0).argsort(0) * ((5**0.5 - 1) / 2) + shift) % 1
        return quantiles(u.clamp(1e-9, 1 - 1e-9))


@pytest.mark.parametrize("clip", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(("spec", "sampler", "steps"), ONE_WITH_NOISE)
def test_mixtures_come_back_with_their_mean_and_variance(
    spec: ProcessSpec, sampler: str, steps: int, clip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = BOUNDED if clip else MIXTURES
    process = build_process(spec)
    for module in ("ddpm", "edm"):
        monkeypatch.setattr(f"curriculum_ray.diffusion.{module}.normal_like", EvenNoise())
    # An ODE carries even quantiles of the noise to even quantiles of the data.
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    noise = quantiles(u)[:, None].expand(-1, len(data.means)).clone()
    samples = process.generate(Exact(process, data), noise, sampler=sampler, steps=steps, clip=clip).double()
    assert_within((samples.mean(0), samples.var(0)), data)
