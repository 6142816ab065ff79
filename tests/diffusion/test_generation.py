"""Every process and sampler, given the exact score of a mixture in the plane, generates that mixture."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, Process, ProcessSpec, build_process

CASES = [
    *((DDPMSpec(prediction=p), s, 200) for p in ("epsilon", "x0", "v") for s in ("ddim", "ancestral")),
    (DDPMSpec(betas="linear"), "ddim", 200),
    (EDMSpec(), "heun", 40),
    (EDMSpec(), "euler", 200),
    (FlowSpec(), "heun", 100),
    (FlowSpec(), "euler", 300),
]


@dataclass(frozen=True)
class PlaneMixture:
    """Points (B,1,1,2) of K Gaussians: `weights` (K,), `means` (K,2), standard deviations `stds` (K,)."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def sample(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        mode = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        points = self.means[mode] + self.stds[mode, None] * torch.randn(count, 2, generator=generator)
        return points.view(-1, 1, 1, 2)

    def denoise(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | alpha·x0 + sigma·noise = x] for x (B,1,1,2), alpha and sigma (B,), by Bayes' rule."""
        points, alpha, sigma = x.reshape(-1, 1, 2), alpha.view(-1, 1), sigma.view(-1, 1)
        variance = alpha**2 * self.stds**2 + sigma**2
        off = points - alpha[..., None] * self.means
        log_mode = self.weights.log() - variance.log() - off.square().sum(-1) / (2 * variance)
        posterior = self.means + (alpha * self.stds**2 / variance)[..., None] * off
        return (log_mode.softmax(1)[..., None] * posterior).sum(1).view(x.shape)

    def assert_like(self, samples: Tensor, tolerance: float = 0.03) -> None:
        """Each mode has its share of the samples, its mean and its spread."""
        points = samples.view(-1, 2)
        mode = ((points[:, None] - self.means).square().sum(-1) / self.stds**2).argmin(1)
        for k, weight in enumerate(self.weights.tolist()):
            mine = points[mode == k]
            assert len(mine) / len(points) == pytest.approx(weight, abs=tolerance)
            torch.testing.assert_close(mine.mean(0), self.means[k], atol=tolerance, rtol=0)
            torch.testing.assert_close(mine.std(0), self.stds[k].expand(2), atol=tolerance, rtol=0.1)


@pytest.fixture
def mixture() -> PlaneMixture:
    """Three well separated modes of different weight and width within [-1, 1]²."""
    return PlaneMixture(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[-0.6, -0.4], [0.6, -0.3], [0.0, 0.6]]),
        torch.tensor([0.1, 0.05, 0.15]),
    )


class ExactModel:
    """The best network for a process on a mixture: E[target | network's input]."""

    def __init__(self, process: Process, mixture: PlaneMixture) -> None:
        self.process = process
        self.mixture = mixture

    def __call__(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        level = {
            "timestep": noise_cond.long(),
            "sigma": (noise_cond / 250).exp(),
            "flow": noise_cond / 1000,
        }[self.process.levels.kind]
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        # corrupt() is linear in (x0, noise): its coefficients are what it makes of (1, 0) and (0, 1).
        input_x0, _, target_x0 = self.process.corrupt(one, level, zero)
        input_noise, _, target_noise = self.process.corrupt(zero, level, one)
        first = (slice(None), 0, 0, 0)
        x0 = self.mixture.denoise(x, input_x0[first], input_noise[first])
        noise = (x - input_x0 * x0) / input_noise
        return target_x0 * x0 + target_noise * noise


@pytest.mark.parametrize(("spec", "sampler", "steps"), CASES)
def test_the_exact_score_generates_the_mixture(
    spec: ProcessSpec, sampler: str, steps: int, mixture: PlaneMixture
) -> None:
    process = build_process(spec)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4000, 1, 1, 2, generator=generator)
    samples = process.generate(
        ExactModel(process, mixture), noise, sampler=sampler, steps=steps, generator=generator, clip=False
    )
    mixture.assert_like(samples)


@pytest.mark.parametrize(
    "spec", [DDPMSpec(), DDPMSpec(prediction="x0"), DDPMSpec(prediction="v"), EDMSpec(), FlowSpec()]
)
class TestEveryProcess:
    """What holds for each kind of process and prediction."""

    def levels(self, process: Process) -> Tensor:
        return process.levels.from_log_snr(torch.linspace(-6, 6, 7))

    def test_the_target_stands_for_the_image(self, spec: ProcessSpec, mixture: PlaneMixture) -> None:
        process = build_process(spec)
        x0, level = mixture.sample(7), self.levels(process)
        x, _, target = process.corrupt(x0, level, mixture.sample(7, seed=1))
        torch.testing.assert_close(process.x0_of(target, x, level), x0, atol=1e-4, rtol=0)

    def test_error_scales_translate_a_squared_error(self, spec: ProcessSpec, mixture: PlaneMixture) -> None:
        process = build_process(spec)
        level = self.levels(process)
        log_snr = process.levels.log_snr(level).double()
        x, _, target = process.corrupt(mixture.sample(7), level, mixture.sample(7, seed=1))
        off = process.x0_of(target + 0.1, x, level) - process.x0_of(target, x, level)
        of_x0 = off.double().square().mean((1, 2, 3))
        to_noise, to_x0 = process.error_scales(log_snr)
        torch.testing.assert_close(of_x0, 0.01 * to_x0.exp(), rtol=1e-3, atol=1e-8)
        # The noisy image fixes what an error of x0 is in noise: alpha·dx0 = -sigma·dnoise.
        torch.testing.assert_close(of_x0 * log_snr.exp(), 0.01 * to_noise.exp(), rtol=1e-2, atol=1e-6)

    def test_the_signal_to_noise_ratio_of_the_input_is_that_of_the_level(
        self, spec: ProcessSpec, mixture: PlaneMixture
    ) -> None:
        process = build_process(spec)
        level, one = self.levels(process), torch.ones(7, 1, 1, 2)
        signal, _, _ = process.corrupt(one, level, 0 * one)
        noise, _, _ = process.corrupt(0 * one, level, one)
        ratio = (signal / noise).square().log().mean((1, 2, 3))
        torch.testing.assert_close(ratio, process.levels.log_snr(level).float(), atol=1e-3, rtol=1e-3)

    def test_noise_cond_rises_with_noise_and_stays_in_bounds(
        self, spec: ProcessSpec, mixture: PlaneMixture
    ) -> None:
        process = build_process(spec)
        _, noise_cond, _ = process.corrupt(
            torch.zeros(7, 1, 1, 2), self.levels(process), torch.zeros(7, 1, 1, 2)
        )
        assert (noise_cond.diff() < 0).all()  # these levels rise in log-SNR
        assert noise_cond.abs().max() <= 2000

    def test_a_worse_network_has_a_higher_loss_than_the_exact_one(
        self, spec: ProcessSpec, mixture: PlaneMixture
    ) -> None:
        process = build_process(spec)
        exact = ExactModel(process, mixture)
        level = self.levels(process).repeat(300)
        arguments = (mixture.sample(2100), level, torch.randn(2100, 1, 1, 2))
        _, best = process.losses(exact, *arguments)
        for factor in (0.8, 1.2):
            _, worse = process.losses(lambda x, c, y, f=factor: f * exact(x, c), *arguments)
            assert worse.mean() > best.mean()

    def test_levels_in_double_precision_do_not_leak_into_the_network(
        self, spec: ProcessSpec, mixture: PlaneMixture
    ) -> None:
        process = build_process(spec)
        level = process.levels.from_log_snr(torch.zeros(2, dtype=torch.float64))
        x, _, target = process.corrupt(mixture.sample(2), level, mixture.sample(2, seed=1))
        assert x.dtype == target.dtype == torch.float32

    def test_clipping_keeps_samples_in_range(self, spec: ProcessSpec, mixture: PlaneMixture) -> None:
        process = build_process(spec)
        noise = torch.randn(8, 1, 1, 2)
        assert process.generate(lambda x, c, y: x, noise, steps=3).abs().max() <= 1
