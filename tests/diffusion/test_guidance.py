"""Classifier-free guidance in an interval of noise levels: where the unconditional network is asked, and where not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, ProcessSpec, build_process

LOW, HIGH = 0.3, 3.0
PROCESSES = [DDPMSpec(), DDPMSpec(prediction="v", zero_terminal_snr=True), EDMSpec(), FlowSpec()]


@pytest.mark.parametrize("spec", PROCESSES)
def test_levels_are_what_the_network_is_told(spec: ProcessSpec) -> None:
    process = build_process(spec)
    levels = process.levels.from_log_snr(torch.linspace(-4, 4, 33))
    items = torch.zeros(33, 2)
    _, noise_cond, _ = process.corrupt(items, levels, items)
    torch.testing.assert_close(process.levels_of(noise_cond), levels)


class Recorder:
    """A network that predicts nothing, and notes at which noise it was asked with and without a condition."""

    def __init__(self) -> None:
        self.asked: dict[bool, set[float]] = {True: set(), False: set()}

    def __call__(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        assert noise_cond.unique().numel() == 1
        self.asked[condition is not None].add(noise_cond[0].item())
        return 0.1 * x


def sigma_of(spec: ProcessSpec, noise_cond: float) -> float:
    """The noise on unscaled data, from the definitions of the processes."""
    match spec:
        case EDMSpec():
            return math.exp(noise_cond / 250)
        case FlowSpec():
            t = noise_cond / 1000
            return t / (1 - t) if t < 1 else math.inf
        case _:
            process = build_process(spec)
            t = round(noise_cond)
            alpha = float(process.get_buffer("alpha")[t])
            return float(process.get_buffer("sigma")[t]) / alpha if alpha else math.inf


@pytest.mark.parametrize("spec", PROCESSES)
@pytest.mark.parametrize("clip", [True, False])
def test_the_unconditional_network_is_asked_in_the_interval_only(spec: ProcessSpec, clip: bool) -> None:
    model, process = Recorder(), build_process(spec)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    process.generate(
        model,
        noise,
        steps=40,
        condition=torch.zeros(2, dtype=torch.long),
        guidance=2.0,
        guidance_interval=(LOW, HIGH),
        clip=clip,
    )
    inside = {each for each in model.asked[True] if LOW <= sigma_of(spec, each) <= HIGH}
    assert model.asked[False] == inside
    assert 0 < len(inside) < len(model.asked[True])


def test_no_interval_guides_everywhere() -> None:
    samples = []
    for interval in (None, (0.0, math.inf)):
        model = Recorder()
        samples.append(
            build_process(EDMSpec()).generate(
                model,
                torch.ones(2, 3),
                steps=5,
                condition=torch.zeros(2, dtype=torch.long),
                guidance=2.0,
                guidance_interval=interval,
            )
        )
        assert model.asked[True] == model.asked[False]
    assert samples[0].equal(samples[1])


@pytest.mark.parametrize("steps", [5, 18, 40])
def test_both_ends_of_an_interval_are_guided(steps: int) -> None:
    """EDM's own levels, of which the network is told the logarithm in float32."""
    spec = EDMSpec()
    every = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = spec.sigma_min ** (1 / 7), spec.sigma_max ** (1 / 7)
    sigmas = (high + every * (low - high)) ** 7
    for first, last in ((0, steps - 1), (1, steps - 2), (2, 3)):
        model = Recorder()
        build_process(spec).generate(
            model,
            torch.ones(2, 3),
            sampler="euler",
            steps=steps,
            condition=torch.zeros(2, dtype=torch.long),
            guidance=2.0,
            guidance_interval=(float(sigmas[last]), float(sigmas[first])),
        )
        assert len(model.asked[False]) == last - first + 1


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("interval", [(5.0, 1.0), (-1.0, 1.0), (1.0, 1.0)])
def test_an_interval_that_does_not_rise_is_refused(guidance: float, interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="guidance_interval must rise from at least 0"):
        build_process(EDMSpec()).generate(
            Recorder(),
            torch.ones(2, 3),
            condition=torch.zeros(2, dtype=torch.long),
            guidance=guidance,
            guidance_interval=interval,
        )
