"""DDPM against a Gaussian data distribution, whose best predictor is known in closed form."""

import itertools
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curriculum_ray.diffusion import DDPMSpec, Process, WeightingSpec, build_process
from curriculum_ray.diffusion.ddpm import DDPM, spaced_timesteps
from curriculum_ray.diffusion.uncertainty import EDM2Uncertainty, IntervalUncertaintySpec
from curriculum_ray.diffusion.weighting import NoWeighting, SoftMinSNR

MEAN, STD = 0.3, 0.5
Prediction = Literal["epsilon", "x0", "v"]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "x0", "v")


def process(prediction: Prediction = "epsilon", betas: Literal["linear", "cosine"] = "cosine") -> DDPM:
    made = build_process(DDPMSpec(prediction=prediction, betas=betas))
    assert isinstance(made, DDPM)
    return made


def best_model(ddpm: DDPM) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The predictor with the least squared error for pixels drawn from N(MEAN, STD²)."""

    def predict(x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        alpha = ddpm.alpha[noise_cond.long()].view(-1, 1, 1, 1)
        sigma = ddpm.sigma[noise_cond.long()].view(-1, 1, 1, 1)
        x0 = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        epsilon = sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        return {"epsilon": epsilon, "x0": x0, "v": alpha * epsilon - sigma * x0}[ddpm.prediction]

    return predict


def normal(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_generation_reproduces_a_gaussian(
    prediction: Prediction, sampler: str, betas: Literal["linear", "cosine"]
) -> None:
    ddpm = process(prediction, betas)
    generator = torch.Generator().manual_seed(1)
    samples = ddpm.generate(
        best_model(ddpm), normal(2000), sampler=sampler, steps=250, generator=generator, clip=False
    )
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.std().item() == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_few_steps_of_the_three_predictions_are_one_and_the_same(prediction: Prediction) -> None:
    """The same denoiser in other parametrisations gives the same samples."""
    reference, ddpm = process("x0"), process(prediction)
    expected = reference.generate(best_model(reference), normal(16), steps=10)
    samples = ddpm.generate(best_model(ddpm), normal(16), steps=10)
    torch.testing.assert_close(samples, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_best_predictor_has_the_loss_of_theory(prediction: Prediction) -> None:
    """Var[x0 | x_t] = STD² sigma² / (alpha² STD² + sigma²), and x_t ties the errors of noise and v to it."""
    ddpm = process(prediction)
    for t in (0, 200, 500, 900):
        alpha, sigma = ddpm.alpha[t].double(), ddpm.sigma[t].double()
        of_x0 = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)
        expected = {"epsilon": alpha**2 / sigma**2 * of_x0, "x0": of_x0, "v": of_x0 / sigma**2}[prediction]
        x0 = MEAN + STD * normal(4000, 1)
        _, raw = ddpm.losses(best_model(ddpm), x0, torch.full((4000,), t), normal(4000, 2))
        assert raw.mean().item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_error_scales_translate_a_squared_error(prediction: Prediction) -> None:
    """An output that is off by e is off by what the scales say in noise and in x0."""
    ddpm = process(prediction)
    t = torch.tensor([3, 250, 700])
    levels = ddpm.levels
    x, _, target = ddpm.corrupt(normal(3), t, normal(3, 1))
    to_noise, to_x0 = ddpm.error_scales(levels.log_snr(t))
    right, wrong = (ddpm.x0_of(target + off, x, t) for off in (0.0, 0.1))
    of_x0 = (wrong - right).square().mean((1, 2, 3)).double()
    of_noise = of_x0 * levels.log_snr(t).exp()
    torch.testing.assert_close(of_x0, 0.01 * to_x0.exp(), rtol=1e-3, atol=0)
    torch.testing.assert_close(of_noise, 0.01 * to_noise.exp(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_stands_for_the_image(prediction: Prediction) -> None:
    ddpm, t = process(prediction), torch.tensor([0, 250, 700])
    x0 = normal(3)
    x, _, target = ddpm.corrupt(x0, t, normal(3, 1))
    torch.testing.assert_close(ddpm.x0_of(target, x, t), x0, atol=1e-5, rtol=1e-5)


def test_the_network_gets_the_timestep() -> None:
    seen = []

    def model(x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        seen.append((noise_cond, condition))
        return x

    condition = torch.tensor([1, 2])
    process().losses(model, normal(2), torch.tensor([0, 999]), normal(2), condition)
    assert seen[0][0].dtype == torch.float32
    assert seen[0][0].tolist() == [0.0, 999.0]
    assert torch.equal(seen[0][1], condition)


def test_losses_are_per_sample_and_only_the_weighted_ones_have_a_gradient() -> None:
    scale = torch.zeros((), requires_grad=True)
    x0, noise = normal(3), normal(3, 1)
    losses, raw = process().losses(lambda x, c, y: x * scale, x0, torch.tensor([1, 2, 3]), noise)
    torch.testing.assert_close(raw, noise.square().flatten(1).mean(1))
    assert losses.shape == (3,)
    assert losses.requires_grad
    assert not raw.requires_grad


def test_losses_are_float32_for_a_bfloat16_model() -> None:
    losses, raw = process().losses(
        lambda x, c, y: x.bfloat16(), normal(2), torch.tensor([0, 500]), normal(2, 1)
    )
    assert losses.dtype == raw.dtype == torch.float32


def test_samples_are_a_function_of_the_noise_and_the_seed() -> None:
    ddpm = process()
    model = best_model(ddpm)

    def ancestral(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return ddpm.generate(model, normal(4), sampler="ancestral", steps=5, generator=generator)

    assert torch.equal(ancestral(1), ancestral(1))
    assert not torch.equal(ancestral(1), ancestral(2))
    assert torch.equal(ddpm.generate(model, normal(4), steps=5), ddpm.generate(model, normal(4), steps=5))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    ddpm = process()
    noise = normal(4)
    together = ddpm.generate(best_model(ddpm), noise, steps=5)
    torch.testing.assert_close(together[1:2], ddpm.generate(best_model(ddpm), noise[1:2], steps=5))


def test_samples_stay_within_the_range_of_images() -> None:
    samples = process().generate(lambda x, c, y: torch.zeros_like(x), normal(8), steps=5)
    assert samples.abs().max() <= 1


def test_guidance_extrapolates_from_the_unlabelled_prediction() -> None:
    ddpm = process("x0")

    def model(x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.full_like(x, 0.1 if condition is None else 0.3)

    condition = torch.zeros(2, dtype=torch.long)
    for guidance, expected in ((0.0, 0.1), (1.0, 0.3), (2.0, 0.5)):
        samples = ddpm.generate(model, normal(2), steps=1, condition=condition, guidance=guidance)
        torch.testing.assert_close(samples, torch.full_like(samples, expected))


def test_guidance_without_a_condition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"guidance needs a condition, but got none with guidance 2"):
        process().generate(lambda x, c, y: x, normal(1), steps=1, guidance=2.0)


def test_spaced_timesteps_reach_both_ends_and_fall() -> None:
    assert spaced_timesteps(1000, 5) == [999, 749, 500, 250, 0]
    assert spaced_timesteps(1000, 1) == [999]
    assert spaced_timesteps(7, 7) == [6, 5, 4, 3, 2, 1, 0]
    for steps in (2, 20, 333, 999):
        spaced = spaced_timesteps(1000, steps)
        assert len(set(spaced)) == steps
        assert spaced == sorted(spaced, reverse=True)


@pytest.mark.parametrize("betas", ["linear", "cosine"])
def test_sampling_that_nothing_clips_starts_where_an_error_of_the_noise_can_be_borne(betas: str) -> None:
    ddpm = build_process(DDPMSpec(betas=betas))
    assert isinstance(ddpm, DDPM)
    bounded, free = ddpm.visited(20, clip=True), ddpm.visited(20, clip=False)
    assert bounded[0] == 999
    assert len(free) == 20
    assert ddpm.sigma[free[0]] / ddpm.alpha[free[0]] <= 20
    assert ddpm.sigma[free[0] + 1] / ddpm.alpha[free[0] + 1] > 20
    assert len(ddpm.visited(1000, clip=False)) == free[0] + 1
    # A network whose noise is wrong by a hundredth.
    samples = ddpm.generate(lambda x, c, y: x + 0.01, normal(64), steps=20, clip=False)
    assert samples.abs().max() < 10


@pytest.mark.parametrize("steps", [2, 3, 20])
def test_ancestral_sampling_is_finite_with_few_steps(steps: int) -> None:
    ddpm = build_process(DDPMSpec(betas="linear"))
    samples = ddpm.generate(
        lambda x, c, y: x,
        normal(8),
        sampler="ancestral",
        steps=steps,
        generator=torch.Generator().manual_seed(0),
    )
    assert samples.isfinite().all()


@settings(deadline=None)
@given(count=st.integers(1, 5000), share=st.floats(0, 1))
def test_any_number_of_steps_is_spaced_without_repetition(count: int, share: float) -> None:
    steps = max(1, round(share * count))
    spaced = spaced_timesteps(count, steps)
    assert len(spaced) == steps
    assert all(a > b for a, b in itertools.pairwise(spaced))
    assert spaced[0] == count - 1
    assert spaced[-1] == 0 or steps == 1


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be .* but got {steps}"):
        process().generate(lambda x, c, y: x, normal(1), steps=steps)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(
        ValueError, match="sampler must be one of ddim, ancestral for ddpm-epsilon, but got 'heun'"
    ):
        process().generate(lambda x, c, y: x, normal(1), sampler="heun")


def test_the_name_tells_process_and_prediction() -> None:
    assert process("v").name == "ddpm-v"


def test_a_fixed_process_has_nothing_to_learn_or_to_save() -> None:
    made: Process = process()
    assert not list(made.parameters())
    assert not made.state_dict()


@pytest.mark.parametrize(
    "weighting", [NoWeighting(), SoftMinSNR(), EDM2Uncertainty(), IntervalUncertaintySpec()]
)
def test_losses_never_wait_for_the_device(weighting: WeightingSpec) -> None:
    """Meta tensors have no values: reading one raises."""
    ddpm = build_process(DDPMSpec(), weighting).to("meta")
    x, t = torch.empty(2, 1, 4, 4, device="meta"), torch.empty(2, dtype=torch.long, device="meta")
    losses, _ = ddpm.losses(lambda x, c, y: x, x, t, torch.empty_like(x))
    assert losses.shape == (2,)
