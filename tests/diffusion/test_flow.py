"""Flow matching along straight lines."""

import pytest
import torch

from curriculum_ray.diffusion import Flow, FlowSpec, build_process
from curriculum_ray.diffusion.uncertainty import EDM2Uncertainty
from curriculum_ray.diffusion.weighting import MinSNR


def test_the_ends_of_the_path_are_image_and_noise() -> None:
    x0, noise = torch.full((3, 1, 2, 2), 0.5), torch.full((3, 1, 2, 2), -2.0)
    x, noise_cond, velocity = Flow(FlowSpec()).corrupt(x0, torch.tensor([0.0, 0.5, 1.0]), noise)
    assert x[:, 0, 0, 0].tolist() == [0.5, -0.75, -2.0]
    assert noise_cond.tolist() == [0.0, 500.0, 1000.0]
    assert (velocity == -2.5).all()


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("clip", [True, False])
def test_a_straight_path_is_followed_exactly_in_any_number_of_steps(
    sampler: str, steps: int, clip: bool
) -> None:
    x0, noise = torch.rand(4, 1, 2, 2) - 0.5, torch.randn(4, 1, 2, 2)
    samples = Flow(FlowSpec()).generate(
        lambda x, c, y: noise - x0, noise, sampler=sampler, steps=steps, clip=clip
    )
    torch.testing.assert_close(samples, x0, atol=1e-5, rtol=0)


def test_min_snr_is_translated_to_the_velocity() -> None:
    """An error e of the velocity is one of t·e in x0, so that the weight is t²·min(SNR, gamma)."""
    t = torch.tensor([0.01, 0.3, 0.5, 0.9])
    process = build_process(FlowSpec(), MinSNR(gamma=5))
    weights = process.weighting(torch.ones(4), process.levels.log_snr(t))
    torch.testing.assert_close(weights, t**2 * (((1 - t) / t) ** 2).clamp(max=5))


@pytest.mark.parametrize("weighting", [MinSNR(), EDM2Uncertainty(channels=8)])
def test_losses_are_finite_at_both_ends_of_time(weighting: MinSNR | EDM2Uncertainty) -> None:
    process = build_process(FlowSpec(), weighting)
    x0 = torch.zeros(2, 1, 2, 2)
    losses, _ = process.losses(lambda x, c, y: x, x0, torch.tensor([0.0, 1.0]), torch.ones_like(x0))
    assert losses.isfinite().all()
