"""Every process and sampler, given the exact score of a mixture in the plane, generates that mixture."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, Process, ProcessSpec, build_process
from curriculum_ray.diffusion.ddpm import trailing_timesteps
from curriculum_ray.diffusion.process import guided
from curriculum_ray.diffusion.weighting import MinSNR

CASES = [
    *((DDPMSpec(prediction=p), s, 200) for p in ("epsilon", "x0", "v") for s in ("ddim", "ancestral")),
    (DDPMSpec(betas="linear"), "ddim", 200),
    *(
        (DDPMSpec(betas=b, prediction=p, zero_terminal_snr=True), s, 200)
        for b, p, s in (("linear", "v", "ddim"), ("cosine", "x0", "ancestral"), ("cosine", "v", "ddim"))
    ),
    (EDMSpec(), "heun", 40),
    (EDMSpec(), "euler", 200),
    (EDMSpec(), "stochastic", 60),
    (FlowSpec(), "heun", 100),
    (FlowSpec(), "euler", 300),
]
# One of each process by default: `test_exact.py` compares all of them with closed forms.
ONE_EACH = [
    pytest.param(*case, marks=() if k in (1, 8, 10, 13) else pytest.mark.slow) for k, case in enumerate(CASES)
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

    def log_density(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log p(x), up to a constant, of alpha·x0 + sigma·noise for x (B,1,1,2), alpha and sigma (B,)."""
        points, alpha, sigma = x.reshape(-1, 1, 2), alpha.view(-1, 1), sigma.view(-1, 1)
        variance = alpha**2 * self.stds**2 + sigma**2
        off = points - alpha[..., None] * self.means
        return (self.weights.log() - variance.log() - off.square().sum(-1) / (2 * variance)).logsumexp(1)

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


@pytest.mark.parametrize(("spec", "sampler", "steps"), ONE_EACH)
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


@pytest.mark.parametrize(("spec", "sampler", "steps"), ONE_EACH)
def test_guidance_moves_a_class_away_from_all_by_its_scale(
    spec: ProcessSpec, sampler: str, steps: int
) -> None:
    # Between Gaussians of one width the guided score is that of a third: means m of all and m_c of a class
    # give m + guidance·(m_c - m) (Ho & Salimans 2022, Eq. 6).
    process, guidance = build_process(spec), 2.5
    means = torch.tensor([[0.2, -0.1], [0.3, 0.1], [-0.1, 0.2]])
    of_all, *of_class = (
        ExactModel(process, PlaneMixture(torch.ones(1), mean[None], torch.tensor([0.2]))) for mean in means
    )

    def model(x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None:
            return of_all(x, noise_cond)
        first, second = (each(x, noise_cond) for each in of_class)
        return torch.where(condition.view(-1, 1, 1, 1) == 0, first, second)

    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(4000) % 2
    samples = process.generate(
        model,
        torch.randn(4000, 1, 1, 2, generator=generator),
        sampler=sampler,
        steps=steps,
        generator=generator,
        condition=labels,
        guidance=guidance,
        clip=False,
    )
    for label in range(2):
        mine = samples[labels == label].view(-1, 2)
        expected = means[0] + guidance * (means[1 + label] - means[0])
        torch.testing.assert_close(mine.mean(0), expected, atol=0.02, rtol=0)
        torch.testing.assert_close(mine.std(0), torch.full((2,), 0.2), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "spec",
    [
        *(DDPMSpec(prediction=p, betas=b) for p in ("epsilon", "x0", "v") for b in ("linear", "cosine")),
        *(DDPMSpec(prediction=p, zero_terminal_snr=True) for p in ("x0", "v")),
        EDMSpec(),
        FlowSpec(),
    ],
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

    @pytest.mark.parametrize("shape", [(1, 5), (2, 3), (4,)])
    def test_signals_point_sets_and_vectors_are_noised_and_generated(
        self, spec: ProcessSpec, mixture: PlaneMixture, shape: tuple[int, ...]
    ) -> None:
        process = build_process(spec)
        x0, level = torch.rand(7, *shape), self.levels(process)
        noise = torch.randn_like(x0)
        x, noise_cond, target = process.corrupt(x0, level, noise)
        flat = process.corrupt(x0.view(7, 1, 1, -1), level, noise.view(7, 1, 1, -1))
        torch.testing.assert_close(x.flatten(), flat[0].flatten())
        torch.testing.assert_close(process.x0_of(target, x, level), x0, atol=1e-4, rtol=0)
        assert noise_cond.shape == (7,)
        for sampler in process.samplers:
            samples = process.generate(lambda x, c, y: 0 * x, noise, sampler=sampler, steps=3)
            assert samples.shape == x0.shape

    def test_the_best_network_follows_the_analytic_score(
        self, spec: ProcessSpec, mixture: PlaneMixture
    ) -> None:
        process = build_process(spec)
        level = self.levels(process).repeat(3)
        one = torch.ones(21, 1, 1, 2)
        x, noise_cond, _ = process.corrupt(mixture.sample(21), level, torch.randn(21, 1, 1, 2))
        first = (slice(None), 0, 0, 0)
        alpha, sigma = (process.corrupt(a * one, level, (1 - a) * one)[0][first] for a in (1, 0))
        x0 = process.x0_of(ExactModel(process, mixture)(x, noise_cond), x, level)
        # Tweedie's formula: x + sigma² · score = alpha · E[x0 | x].
        points = x.double().requires_grad_()
        log_density = mixture.log_density(points, alpha.double(), sigma.double()).sum()
        (score,) = torch.autograd.grad(log_density, points)
        analytic = (x + sigma.double().view(-1, 1, 1, 1) ** 2 * score) / alpha.double().view(-1, 1, 1, 1)
        torch.testing.assert_close(x0.double(), analytic, atol=2e-3, rtol=2e-3)


def test_zero_terminal_snr_starts_from_pure_noise_and_keeps_the_clean_end() -> None:
    for betas in ("linear", "cosine"):
        plain = build_process(DDPMSpec(betas=betas, prediction="v"))
        zero = build_process(DDPMSpec(betas=betas, prediction="v", zero_terminal_snr=True), MinSNR())
        assert zero.alpha[-1] == 0
        assert zero.sigma[-1] == 1
        torch.testing.assert_close(zero.alpha[0], plain.alpha[0])
        assert all(math.isfinite(end) for end in zero.log_snr_range)
        level = torch.tensor([0, 500, 998, 999])
        x0 = torch.rand(4, 3, 8, 8)
        weighted, raw = zero.losses(lambda x, c, y: 0 * x, x0, level, torch.randn_like(x0))
        assert weighted.isfinite().all()
        assert raw.isfinite().all()
        assert trailing_timesteps(1000, 4) == [999, 749, 499, 249]


def test_epsilon_prediction_is_refused_where_the_noise_tells_nothing() -> None:
    with pytest.raises(ConfigError, match="zero_terminal_snr needs the prediction v or x0"):
        parse(DDPMSpec, {"zero_terminal_snr": True}, "process")


def test_the_stochastic_sampler_without_churn_is_heun() -> None:
    process = build_process(EDMSpec(churn=0))
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    heun, stochastic = (
        process.generate(lambda x, c, y: x, noise, sampler=name, steps=5) for name in ("heun", "stochastic")
    )
    assert torch.equal(heun, stochastic)
    churned = build_process(EDMSpec()).generate(lambda x, c, y: x, noise, sampler="stochastic", steps=5)
    assert not torch.allclose(heun, churned)


@pytest.mark.parametrize(
    "condition", [torch.tensor([1, 2]), torch.ones(2, 5, dtype=torch.long), torch.ones(2, 6)]
)
def test_guidance_moves_away_from_the_unconditional_output(condition: Tensor) -> None:
    def model(x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None:
            return torch.zeros_like(x)
        return condition.float().view(len(x), -1).mean(1)[:, None] + 0 * x

    x = torch.zeros(2, 3)
    conditional = model(x, torch.zeros(2), condition)
    torch.testing.assert_close(guided(model, condition, 3.0)(x, torch.zeros(2)), 3 * conditional)
    with pytest.raises(ValueError, match="guidance needs a condition"):
        guided(model, None, 3.0)
