"""Beta schedules against values computed by hand."""

import math

import pytest
import torch

from curriculum_ray.diffusion.betas import BETAS, BetaSchedule, alphas_cumprod


def test_linear_betas_run_between_the_papers_ends() -> None:
    betas = BETAS["linear"](1000)
    assert betas[0].item() == pytest.approx(1e-4)
    assert betas[-1].item() == pytest.approx(0.02)
    assert betas[500].item() == pytest.approx(1e-4 + 500 / 999 * 0.0199)


def test_scaled_linear_betas_are_those_of_stable_diffusions_scheduler() -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(alphas_cumprod("scaled_linear", 1000).float(), theirs.alphas_cumprod)


def test_cosine_follows_the_papers_alphas_and_is_clipped() -> None:
    def f(t: float) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    alphas = alphas_cumprod("cosine", 1000)
    for t in (0, 10, 499, 998):
        assert alphas[t].item() == pytest.approx(f(t + 1) / f(0), rel=1e-9)
    assert BETAS["cosine"](1000).max().item() == 0.999


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("count", [2, 10, 100, 1000, 4000])
def test_signal_decreases_from_nearly_all_to_nearly_nothing(betas: BetaSchedule, count: int) -> None:
    alphas = alphas_cumprod(betas, count)
    assert alphas.shape == (count,)
    assert (alphas.diff() < 0).all()
    assert (alphas > 0).all()
    assert alphas[-1] < (1e-2 if betas == "scaled_linear" else 1e-3)
    if count >= 100:
        assert alphas[0] > 0.99


def test_the_linear_schedule_ends_with_the_same_noise_for_any_count() -> None:
    ends = [alphas_cumprod("linear", count)[-1].log().item() for count in (500, 1000, 2000)]
    assert max(ends) - min(ends) < 0.2
