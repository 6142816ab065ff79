"""Fixed weightings against values computed by hand, and as one loss whatever the network predicts."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, ProcessSpec, WeightingSpec, build_process
from curriculum_ray.diffusion.weighting import (
    P2,
    CosMap,
    DebiasedEstimation,
    MinSNR,
    NoWeighting,
    SigmaSqrt,
    SoftMinSNR,
    cosmap,
    min_snr,
    soft_min_snr,
)

SNR = torch.tensor([0.01, 1.0, 4.0, 5.0, 20.0, 1e4], dtype=torch.float64)
PROCESSES: list[ProcessSpec] = [
    DDPMSpec(prediction="epsilon"),
    DDPMSpec(prediction="x0"),
    DDPMSpec(prediction="v"),
    EDMSpec(),
    FlowSpec(),
]
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


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("epsilon", [10, 1, 1 / 2, 5**-0.5, 20**-0.5, 0.01]),
        ("x0", [0.1, 1, 2, 5**0.5, 20**0.5, 100]),
        ("v", [0.1 / 1.01, 1 / 2, 2 / 5, 5**0.5 / 6, 20**0.5 / 21, 100 / 10001]),
    ],
)
def test_debiased_estimation_has_the_papers_weights(prediction: Prediction, expected: list[float]) -> None:
    torch.testing.assert_close(weights(prediction, DebiasedEstimation()), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("prediction", "factor"),
    [("epsilon", 1), ("x0", SNR), ("v", SNR / (SNR + 1))],
    ids=["epsilon", "x0", "v"],
)
def test_p2_weights_the_error_of_epsilon_whatever_is_predicted(
    prediction: Prediction, factor: torch.Tensor
) -> None:
    torch.testing.assert_close(weights(prediction, P2(gamma=0.5, k=2)), factor * (2 + SNR) ** -0.5)
    torch.testing.assert_close(weights(prediction, P2(gamma=0)), factor * torch.ones_like(SNR))


def test_the_velocity_is_weighted_as_by_diffusers() -> None:
    """`compute_loss_weighting_for_sd3` at sigma = t, with the velocity as target."""
    process = build_process(FlowSpec())
    t = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    for spec, expected in (
        (SigmaSqrt(), t**-2),
        (CosMap(), 2 / (math.pi * (1 - 2 * t + 2 * t**2))),
    ):
        weighting = build_process(FlowSpec(), spec).weighting
        torch.testing.assert_close(weighting(torch.ones_like(t), process.levels.log_snr(t)), expected)


def test_the_cosmap_weight_is_the_density_of_the_cosine_schedules_log_snr() -> None:
    """SNR = cot²(πu/2) for even u (Nichol & Dhariwal 2021) is that of t = tan/(1 + tan); the weight is du/dt."""
    u = torch.linspace(0.02, 0.98, 2001, dtype=torch.float64)
    t = (math.pi * u / 2).tan() / (1 + (math.pi * u / 2).tan())
    density = (u[2:] - u[:-2]) / (t[2:] - t[:-2])
    torch.testing.assert_close(cosmap(2 * ((1 - t) / t).log())[1:-1], density, rtol=1e-4, atol=0)


LIMITS = {
    # At SNR = 0 on the error of epsilon, of x0 and of v.
    MinSNR(): (1, 0, 0),
    SoftMinSNR(): (1, 0, 0),
    P2(gamma=0.5, k=4): (1 / 2, 0, 0),
    DebiasedEstimation(): (1000, 0, 0),
    SigmaSqrt(): (1e6, 1, 1),
    CosMap(): (1e6 * 2 / math.pi, 2 / math.pi, 2 / math.pi),
}


@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_at_no_signal_a_weight_is_the_limit_of_its_formula(
    prediction: Prediction, spec: WeightingSpec
) -> None:
    ends = weights(prediction, spec, torch.tensor([0.0, 1e-13], dtype=torch.float64))
    limit = LIMITS[spec][["epsilon", "x0", "v"].index(prediction)]
    torch.testing.assert_close(ends, torch.tensor([limit, limit]).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda spec: build_process(spec).name)
@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.kind)
def test_weights_are_finite_at_both_ends_of_the_snr(spec: WeightingSpec, process: ProcessSpec) -> None:
    weighting = build_process(process, spec).weighting
    log_snr = torch.tensor([-torch.inf, -200.0, -60.0, 0.0, 60.0, 200.0, torch.inf])
    ends = weighting(torch.ones(7), log_snr)
    assert torch.isfinite(ends).all()
    assert (ends >= 0).all()


@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.kind)
def test_the_last_timestep_of_a_zero_terminal_schedule_goes_on_from_its_neighbours(
    spec: WeightingSpec,
) -> None:
    for prediction in ("x0", "v"):
        process = build_process(DDPMSpec(prediction=prediction, zero_terminal_snr=True), spec)
        log_snr = process.levels.log_snr(torch.arange(1000)).float()
        assert log_snr[-1] == -math.inf
        weight = process.weighting(torch.ones(1000), log_snr)
        assert abs(float(weight[-1] - weight[-2])) <= 2 * abs(float(weight[-2] - weight[-3]))


@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.kind)
def test_one_weighting_means_one_loss_whatever_is_predicted(spec: WeightingSpec) -> None:
    """An error of x0 costs the same, said as an error of x0, of the noise (·SNR) or of v (·(SNR + 1))."""
    as_x0 = weights("x0", spec)
    torch.testing.assert_close(weights("epsilon", spec) * SNR, as_x0)
    torch.testing.assert_close(weights("v", spec) * (SNR + 1), as_x0)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda spec: build_process(spec).name)
@pytest.mark.parametrize("spec", LIMITS, ids=lambda spec: spec.kind)
def test_one_weighting_means_one_loss_for_every_process(spec: WeightingSpec, process: ProcessSpec) -> None:
    """Measured on the process itself: how far the item moves when the network's output moves by one."""
    built = build_process(process, spec)
    level = built.levels.from_log_snr(torch.linspace(-5, 5, 6, dtype=torch.float64))
    log_snr = built.levels.log_snr(level).double()
    x = torch.zeros(6, 1)
    output = torch.ones(6, 1)
    moved = (built.x0_of(output, x, level) - built.x0_of(0 * output, x, level)).double()[:, 0]
    reference = weights("x0", spec, log_snr.exp())
    torch.testing.assert_close(
        built.weighting(torch.ones(6).double(), log_snr), moved.square() * reference, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("sigma_data", [0.25, 0.5, 1.0])
def test_the_default_gamma_of_soft_min_snr_follows_sigma_data(sigma_data: float) -> None:
    process = EDMSpec(sigma_data=sigma_data)
    sigma = torch.tensor([0.01, 0.3, 1.0, 9.0], dtype=torch.float64)
    weight = build_process(process, SoftMinSNR()).weighting(torch.ones(4).double(), -2 * sigma.log())
    expected = (sigma * sigma_data) ** 2 / (sigma**2 + sigma_data**2) ** 2
    torch.testing.assert_close(weight, expected)
    for unscaled in (DDPMSpec(), FlowSpec()):
        default, four = (
            build_process(unscaled, spec).weighting(torch.ones(6).double(), SNR.log())
            for spec in (SoftMinSNR(), SoftMinSNR(gamma=4))
        )
        assert torch.equal(default, four)


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


def test_losses_of_a_process_are_weighted_and_the_raw_ones_are_not() -> None:
    process = build_process(DDPMSpec(), MinSNR())
    x0, noise, t = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.tensor([0, 999])
    losses, raw = process.losses(lambda x, c, y: torch.zeros_like(x), x0, t, noise)
    assert raw.tolist() == [1.0, 1.0]
    snr = math.exp(process.levels.log_snr(torch.tensor(0)).item())
    torch.testing.assert_close(losses, torch.tensor([5 / snr, 1.0]))
