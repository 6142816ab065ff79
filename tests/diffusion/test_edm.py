"""EDM's preconditioning and noise levels against the paper's formulas."""

import math
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.diffusion import EDM, EDMSpec, build_process
from curriculum_ray.diffusion.edm import generation_sigmas
from curriculum_ray.diffusion.weighting import SoftMinSNR

SIGMA = torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0])


def images(seed: int) -> torch.Tensor:
    return torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("data", [0.5, 1.3])
def test_the_denoiser_and_its_loss_are_the_papers(data: float) -> None:
    """Table 1 of Karras et al. 2022, written out, and the loss lambda(sigma)·|D - x0|² of its Eq. 2."""
    edm = EDM(EDMSpec(sigma_data=data))
    x0, noise, output, sigma = images(0), images(1), images(2), SIGMA.view(-1, 1, 1, 1)
    noisy = x0 + sigma * noise
    total = sigma**2 + data**2
    c_skip, c_out, c_in = data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt()
    denoised = c_skip * noisy + c_out * output

    x, noise_cond, target = edm.corrupt(x0, SIGMA, noise)
    torch.testing.assert_close(x, c_in * noisy)
    torch.testing.assert_close(noise_cond, SIGMA.log() / 4 * 1000)
    torch.testing.assert_close(edm.x0_of(output, x, SIGMA), denoised)
    weight = total / (sigma * data) ** 2
    expected = (weight * (denoised - x0) ** 2).mean((1, 2, 3))
    # In float32 the paper's form loses the clean end to cancellation; the target of the network does not.
    torch.testing.assert_close((output - target).square().mean((1, 2, 3)), expected, rtol=1e-3, atol=0)


def test_the_target_has_unit_variance_at_every_level() -> None:
    """What the preconditioning is for (Karras et al. 2022, App. B.6)."""
    edm = EDM(EDMSpec(sigma_data=0.7))
    generator = torch.Generator().manual_seed(0)
    for sigma in SIGMA:
        x0 = 0.7 * torch.randn(20_000, 1, 1, 1, generator=generator)
        noise = torch.randn(20_000, 1, 1, 1, generator=generator)
        x, _, target = edm.corrupt(x0, sigma.expand(20_000), noise)
        assert x.std().item() == pytest.approx(1, abs=0.02)
        assert target.std().item() == pytest.approx(1, abs=0.02)


def test_generation_visits_the_papers_noise_levels() -> None:
    """Eq. 5 with the paper's sigma_min = 0.002, sigma_max = 80, rho = 7."""
    sigmas = generation_sigmas(EDMSpec(), 3)
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[1] == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)
    assert sigmas[2:] == pytest.approx([0.002, 0])
    assert generation_sigmas(EDMSpec(), 1) == pytest.approx([80, 0])


def test_soft_min_snr_at_gamma_4_is_that_of_its_authors() -> None:
    """Crowson et al. 2024 weight the network's error by (sigma·sigma_data)²/(sigma² + sigma_data²)² then."""
    weighting = build_process(EDMSpec(sigma_data=0.5), SoftMinSNR(gamma=4)).weighting
    weights = weighting(torch.ones(5), -2 * SIGMA.log())
    torch.testing.assert_close(weights, (0.5 * SIGMA) ** 2 / (SIGMA**2 + 0.25) ** 2)


def test_the_levels_that_matter_are_those_generated() -> None:
    assert EDM(EDMSpec()).log_snr_range == pytest.approx((-2 * math.log(80), -2 * math.log(0.002)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "edm", "sigma_min": 90}, "sigma_min must be below sigma_max = 80.0, but got 90"),
        ({"kind": "edm", "sigma_data": 0}, "sigma_data"),
        ({"kind": "edm", "betas": "linear"}, "betas is not a known key"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(EDMSpec, settings, "test.yaml")
    assert "\n" not in str(error.value)
