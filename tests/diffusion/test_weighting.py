"""Fixed weightings against values computed by hand."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError
from curriculum_ray.diffusion import DDPMSpec, WeightingSpec, build_process
from curriculum_ray.diffusion.weighting import P2, MinSNR, NoWeighting, SoftMinSNR, min_snr, p2, soft_min_snr

SNR = torch.tensor([0.01, 1.0, 4.0, 5.0, 20.0, 1e4], dtype=torch.float64)
Prediction = Literal["epsilon", "x0", "v"]


def weights(prediction: Prediction, spec: WeightingSpec, snr: torch.Tensor = SNR) -> torch.Tensor:
    weighting = build_process(DDPMSpec(prediction=prediction), spec).weighting
    return weighting(torch.ones_like(snr), snr.log())


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("epsilon", [1.0, 1.0, 1.0, 1.0, 0.25, 5e-4]),
        ("x0", [0.01, 1.0, 4.0, 5.0, 5.0, 5.0]),
        ("v", [0.01 / 1.01, 1 / 2, 4 / 5, 5 / 6, 5 / 21, 5 / 10001]),
    ],
)
def test_min_snr_has_the_papers_weights(prediction: Prediction, expected: list[float]) -> None:
    torch.testing.assert_close(weights(prediction, MinSNR(gamma=5)), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("epsilon", [4 / 4.01, 4 / 5, 4 / 8, 4 / 9, 4 / 24, 4 / 10004]),
        ("x0", [0.04 / 4.01, 4 / 5, 16 / 8, 20 / 9, 80 / 24, 4e4 / 10004]),
        ("v", [0.04 / 4.01 / 1.01, 4 / 10, 16 / 40, 20 / 54, 80 / 504, 4e4 / 10004 / 10001]),
    ],
)
def test_soft_min_snr_is_the_harmonic_blend_of_both_branches(
    prediction: Prediction, expected: list[float]
) -> None:
    torch.testing.assert_close(weights(prediction, SoftMinSNR(gamma=4)), torch.tensor(expected).double())


def test_p2_has_the_papers_weights() -> None:
    torch.testing.assert_close(weights("epsilon", P2(gamma=0.5, k=2)), (2 + SNR) ** -0.5)
    torch.testing.assert_close(weights("epsilon", P2(gamma=0)), torch.ones_like(SNR))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("spec", [MinSNR(), SoftMinSNR()])
def test_weights_are_finite_at_both_ends_of_the_snr(prediction: Prediction, spec: WeightingSpec) -> None:
    ends = weights(prediction, spec, torch.tensor([0.0, 1e-30, 1e30], dtype=torch.float64))
    assert torch.isfinite(ends).all()
    assert ends[0] == (1 if prediction == "epsilon" else 0)


def test_p2_is_finite_at_zero_snr() -> None:
    assert p2(torch.tensor(-torch.inf), gamma=1, k=2).item() == pytest.approx(0.5)


@pytest.mark.parametrize("spec", [MinSNR(), SoftMinSNR()])
def test_one_weighting_means_one_loss_whatever_is_predicted(spec: WeightingSpec) -> None:
    """An error of x0 costs the same, said as an error of x0, of the noise (·SNR) or of v (·(SNR + 1))."""
    as_x0 = weights("x0", spec)
    torch.testing.assert_close(weights("epsilon", spec) * SNR, as_x0)
    torch.testing.assert_close(weights("v", spec) * (SNR + 1), as_x0)


def test_the_soft_cut_lies_below_the_hard_one_and_meets_it_far_away() -> None:
    zero = torch.zeros_like(SNR)
    hard, soft = (f(SNR.log(), zero, 5.0) for f in (min_snr, soft_min_snr))
    assert (soft < hard).all()
    torch.testing.assert_close(soft[[0, -1]], hard[[0, -1]], rtol=5e-3, atol=0)


@settings(deadline=None)
@given(log_snr=st.floats(-60, 60), gamma=st.floats(0.01, 100))
def test_a_weight_on_epsilon_never_exceeds_one_and_falls_with_the_snr(log_snr: float, gamma: float) -> None:
    at = torch.tensor([log_snr, log_snr + 1], dtype=torch.float64)
    for weight in (min_snr, soft_min_snr):
        noisier, cleaner = weight(torch.zeros_like(at), -at, gamma).tolist()
        assert 0 < cleaner <= noisier <= 1


def test_no_weighting_leaves_the_losses_alone() -> None:
    raw = torch.rand(6, dtype=torch.float64)
    weighting = build_process(DDPMSpec(), NoWeighting()).weighting
    assert torch.equal(weighting(raw, SNR.log()), raw)


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_p2_is_refused_for_other_predictions(prediction: Prediction) -> None:
    with pytest.raises(ConfigError, match=f"p2 .* epsilon prediction, but the process is ddpm-{prediction}"):
        build_process(DDPMSpec(prediction=prediction), P2())


def test_losses_of_a_process_are_weighted_and_the_raw_ones_are_not() -> None:
    process = build_process(DDPMSpec(), MinSNR())
    x0, noise, t = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.tensor([0, 999])
    losses, raw = process.losses(lambda x, c, y: torch.zeros_like(x), x0, t, noise)
    assert raw.tolist() == [1.0, 1.0]
    snr = math.exp(process.levels.log_snr(torch.tensor(0)).item())
    torch.testing.assert_close(losses, torch.tensor([5 / snr, 1.0]))
