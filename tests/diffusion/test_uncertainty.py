"""Learned weightings find the expected loss of each noise level."""

import math

import pytest
import torch

from curriculum_ray.config import ConfigError, Spec, parse
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, WeightingSpec, build_process
from curriculum_ray.diffusion.uncertainty import (
    ContinuousUncertainty,
    EDM2Uncertainty,
    IntervalUncertainty,
    IntervalUncertaintySpec,
)


def fit(weighting: torch.nn.Module, raw: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        weighting(raw, log_snr).mean().backward()
        optimizer.step()
    return weighting(raw, log_snr).detach()


@pytest.mark.parametrize("spec", [EDM2Uncertainty(), IntervalUncertaintySpec()])
def test_the_loss_is_the_raw_loss_at_the_start(spec: WeightingSpec) -> None:
    weighting = build_process(DDPMSpec(), spec).weighting
    raw, log_snr = torch.rand(8), torch.linspace(-20, 9, 8)
    torch.testing.assert_close(weighting(raw, log_snr), raw)


def test_a_value_by_hand() -> None:
    weighting = IntervalUncertainty(torch.tensor([0.0]))
    weighting.u.data = torch.tensor([math.log(2), math.log(4)])
    losses = weighting(torch.tensor([3.0, 3.0, 3.0]), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(
        losses, torch.tensor([3 / 2 + math.log(2), 3 / 4 + math.log(4), 3 / 4 + math.log(4)])
    )


def test_continuous_uncertainty_learns_the_log_of_the_loss() -> None:
    log_snr = torch.linspace(-8, 8, 64)
    raw = torch.exp(torch.sin(log_snr / 4))
    weighting = ContinuousUncertainty(64)
    losses = fit(weighting, raw, log_snr)
    torch.testing.assert_close(weighting.uncertainty(log_snr).detach(), raw.log(), atol=0.1, rtol=0)
    torch.testing.assert_close(losses, 1 + raw.log(), atol=0.02, rtol=0)


def test_each_interval_learns_the_log_of_its_mean_loss() -> None:
    weighting = IntervalUncertainty(torch.tensor([-2.0, 3.0]))
    log_snr = torch.tensor([-5.0, -4.0, 0.0, 0.0, 9.0, 9.0])
    fit(weighting, torch.tensor([1.0, 3.0, 0.5, 0.5, 0.1, 0.3]), log_snr)
    torch.testing.assert_close(weighting.u.detach(), torch.tensor([2.0, 0.5, 0.2]).log(), atol=1e-2, rtol=0)


def test_the_features_are_the_same_for_every_rank() -> None:
    torch.manual_seed(1)
    one = ContinuousUncertainty(8)
    torch.manual_seed(2)
    assert torch.equal(one.frequencies, ContinuousUncertainty(8).frequencies)


@pytest.mark.parametrize("spec", [EDM2Uncertainty(channels=4), IntervalUncertaintySpec(intervals=3)])
def test_what_is_learned_is_what_is_saved(spec: WeightingSpec) -> None:
    process = build_process(DDPMSpec(), spec)
    assert [*process.state_dict()] == [name for name, _ in process.named_parameters()]
    assert len([*process.parameters()]) > 0


@pytest.mark.parametrize("betas", ["linear", "cosine"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("intervals", [1, 3, 5, 7, 1000])
def test_intervals_hold_equally_many_timesteps(betas: str, zero_terminal_snr: bool, intervals: int) -> None:
    """Interval k of n holds the timesteps int(T·k/n) … int(T·(k+1)/n) - 1: ANT's released training code."""
    spec = DDPMSpec(betas=betas, prediction="v", zero_terminal_snr=zero_terminal_snr)
    process = build_process(spec, IntervalUncertaintySpec(intervals=intervals))
    log_snr = process.levels.log_snr(torch.arange(1000)).float()
    with torch.no_grad():
        process.weighting.u.copy_(torch.arange(intervals, dtype=torch.float32))
        found = process.weighting(torch.zeros(1000), log_snr)
    # The module counts its intervals from the noisy end.
    cuts = [1000 * k // intervals for k in range(intervals + 1)]
    expected = [intervals - 1 - k for k in range(intervals) for _ in range(cuts[k], cuts[k + 1])]
    assert found.tolist() == expected


def test_intervals_of_continuous_levels_are_drawn_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {
        FlowSpec(): torch.rand(100_000, generator=generator, dtype=torch.float64),
        EDMSpec(): (1.2 * torch.randn(100_000, generator=generator, dtype=torch.float64) - 1.2).exp(),
    }
    for spec, levels in drawn.items():
        process = build_process(spec, IntervalUncertaintySpec(intervals=4))
        edges = process.weighting.edges.double()
        assert bool((edges.diff() > 0).all())
        counts = torch.bincount(torch.bucketize(process.levels.log_snr(levels), edges), minlength=4)
        assert counts.double().div(100_000).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_the_continuous_uncertainty_is_in_single_precision_beside_a_network_in_half() -> None:
    weighting, log_snr = ContinuousUncertainty(), torch.linspace(-8, 12, 9)
    torch.nn.init.normal_(weighting.linear.weight, generator=torch.Generator().manual_seed(0), std=3.0)
    whole = weighting.uncertainty(log_snr)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(weighting.uncertainty(log_snr), whole)


def test_pure_noise_shares_the_continuous_uncertainty_of_its_neighbour() -> None:
    process = build_process(DDPMSpec(prediction="v", zero_terminal_snr=True), EDM2Uncertainty(channels=8))
    torch.nn.init.normal_(process.weighting.linear.weight)
    log_snr = process.levels.log_snr(torch.tensor([998, 999])).float()
    losses = process.weighting(torch.ones(2), log_snr)
    assert losses.isfinite().all()
    assert losses[0] == losses[1]


def test_an_interval_without_a_timestep_is_refused() -> None:
    for intervals in (11, (-100.0, 0.0)):
        with pytest.raises(ConfigError, match=r"intervals must each hold a timestep, but got"):
            build_process(DDPMSpec(num_timesteps=10), IntervalUncertaintySpec(intervals=intervals))


@pytest.mark.parametrize("intervals", [0, [], [1.0, 1.0], [2.0, 1.0], "x"])
def test_impossible_intervals_are_refused(intervals: object) -> None:
    with pytest.raises(ConfigError, match="intervals") as error:
        parse(IntervalUncertaintySpec, {"intervals": intervals}, "test.yaml")
    assert "\n" not in str(error.value)


class Holder(Spec):
    """A group that holds a weighting."""

    weighting: WeightingSpec = EDM2Uncertainty()
    """The weighting."""


def test_settings_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="gamma is not a known key"):
        parse(Holder, {"weighting": {"kind": "edm2_uncertainty", "gamma": 5}}, "test.yaml")
    assert (
        parse(Holder, {"weighting": {"kind": "min_snr", "gamma": 3}}, "test.yaml").weighting.kind == "min_snr"
    )
