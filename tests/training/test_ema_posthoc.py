"""Averages rebuilt from snapshots equal those that would have been kept during the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.training.ema_posthoc import (
    PowerEma,
    PowerEmaSpec,
    combination,
    find_snapshots,
    gamma_of,
    rebuild,
    write_snapshot,
)

STEPS, BATCH = 2000, 8


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.27])
def test_a_profile_is_as_wide_as_was_asked(width: float) -> None:
    """The standard deviation of the density (gamma + 1)·t^gamma over [0, 1]."""
    gamma = gamma_of(width)
    mean = quad(lambda t: (gamma + 1) * t ** (gamma + 1), 0, 1)[0]
    square = quad(lambda t: (gamma + 1) * t ** (gamma + 2), 0, 1)[0]
    assert (square - mean**2) ** 0.5 == pytest.approx(width, rel=1e-6)


def test_the_published_exponents_come_out() -> None:
    # Karras et al. 2024, §3.1: sigma_rel 0.05 and 0.10 are gamma 16.97 and 6.94.
    assert [gamma_of(0.05), gamma_of(0.10)] == pytest.approx([16.97, 6.94], abs=0.005)


def test_a_tracked_average_weighs_the_past_by_its_power() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = PowerEma(model, PowerEmaSpec(sigma_rels=(0.1,)))
    total = 0.0
    gamma = gamma_of(0.1)
    weights = [(step / STEPS) ** gamma for step in range(1, STEPS + 1)]
    for step in range(1, STEPS + 1):
        value = float(step % 700)
        with torch.no_grad():
            model.weight.fill_(value)
        total += weights[step - 1] * value
        ema.update(step * BATCH, BATCH)
    assert ema.averages[0][0].item() == pytest.approx(total / sum(weights), rel=0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, torch.Tensor]]:
    """Snapshots of a random walk of weights, and averages of other widths kept all along."""
    folder = tmp_path_factory.mktemp("snapshots")
    torch.manual_seed(0)
    model = nn.Linear(40, 1, bias=False)
    spec = PowerEmaSpec(sigma_rels=(0.05, 0.10), dtype="fp32")
    kept = PowerEma(model, spec)
    wanted = PowerEma(model, PowerEmaSpec(sigma_rels=(0.07, 0.10, 0.15)))
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            model.weight.add_(torch.randn(1, 40) * 0.05)
        for ema in (kept, wanted):
            ema.update(step * BATCH, BATCH)
        if step % (STEPS // 20) == 0:
            write_snapshot(folder, spec, kept.tensors(), step * BATCH)
    return folder, {width: wanted.averages[i][0] for i, width in enumerate(wanted.spec.sigma_rels)}


@pytest.mark.parametrize("width", [0.07, 0.10, 0.15])
def test_a_rebuilt_average_equals_the_one_kept_all_along(
    run: tuple[Path, dict[float, torch.Tensor]], width: float
) -> None:
    folder, wanted = run
    tensors, images = rebuild(find_snapshots(folder), width)
    assert images == STEPS * BATCH
    error = (tensors["weight"] - wanted[width]).norm() / wanted[width].norm()
    assert error < 0.01
    others = [value for other, value in wanted.items() if other != width]
    assert all(
        (tensors["weight"] - value).norm() > 3 * (tensors["weight"] - wanted[width]).norm()
        for value in others
    )


def test_a_width_that_was_kept_takes_its_own_snapshot_alone() -> None:
    weights = combination([100, 200, 200], [6.94, 6.94, 16.97], 200, 6.94)
    assert weights.tolist() == pytest.approx([0, 1, 0], abs=1e-8)


def by_integration(times: list[float], gammas: list[float], time: float, gamma: float) -> np.ndarray:
    """Algorithm 3 of the paper with its integrals by quadrature, normalised as in its released code."""

    def profile(tau: float, t: float, g: float) -> float:
        return (g + 1) / t * (tau / t) ** g if tau <= t else 0.0

    def product(a: tuple[float, float], b: tuple[float, float]) -> float:
        return quad(lambda tau: profile(tau, *a) * profile(tau, *b), 0, min(a[0], b[0]), epsabs=1e-13)[0]

    kept = list(zip(times, gammas, strict=True))
    gram = np.array([[product(a, b) for b in kept] for a in kept])
    solution = np.linalg.solve(gram, [product(a, (time, gamma)) for a in kept])
    return solution / solution.sum()


def test_the_weights_are_those_of_the_papers_released_code() -> None:
    """Without the normalisation they sum to 0.758: a wide average of two early pairs of snapshots."""
    gammas = [gamma_of(0.05), gamma_of(0.10)] * 2
    weights = combination([25600] * 2 + [51200] * 2, gammas, 51200, gamma_of(0.20))
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    # In units of the end: the weights do not depend on the unit of time.
    assert weights == pytest.approx(by_integration([0.5] * 2 + [1] * 2, gammas, 1, gamma_of(0.20)), rel=1e-7)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 400), min_size=1, max_size=60, unique=True),
    widths=st.lists(st.sampled_from([0.02, 0.05, 0.1, 0.15, 0.25]), min_size=1, max_size=3, unique=True),
    wanted=st.floats(0.01, 0.27),
    later=st.integers(0, 100),
)
def test_the_weights_sum_to_one_for_any_snapshots(
    counts: list[int], widths: list[float], wanted: float, later: int
) -> None:
    times = [count * 256 for count in sorted(counts) for _ in widths]
    gammas = [gamma_of(width) for width in widths] * len(counts)
    weights = combination(times, gammas, times[-1] + 256 * later, gamma_of(wanted))
    assert weights.sum() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("snapshots", [1, 2, 3, 20])
@pytest.mark.parametrize("width", [0.02, 0.2, 0.27])
def test_parameters_that_stood_still_come_back_as_they_were(
    tmp_path: Path, snapshots: int, width: float
) -> None:
    model = nn.Linear(3, 1)
    spec = PowerEmaSpec(sigma_rels=(0.05, 0.10), dtype="fp32")
    ema = PowerEma(model, spec)
    for step in range(1, 20 * snapshots + 1):
        ema.update(step * BATCH, BATCH)
        if step % 20 == 0:
            write_snapshot(tmp_path, spec, ema.tensors(), step * BATCH)
    tensors, _ = rebuild(find_snapshots(tmp_path), width)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(tensors[name], parameter.detach(), rtol=1e-6, atol=0)


def test_half_precision_and_an_earlier_time_are_possible(run: tuple[Path, dict[float, torch.Tensor]]) -> None:
    folder, _ = run
    tensors, images = rebuild(find_snapshots(folder), 0.1, images=STEPS * BATCH // 2)
    assert images == STEPS * BATCH // 2
    assert tensors["weight"].dtype == torch.float32
    spec = PowerEmaSpec(sigma_rels=(0.1,), dtype="fp16")
    path = write_snapshot(folder / "half", spec, {"0/weight": tensors["weight"]}, images)
    assert torch.allclose(rebuild([path], 0.1)[0]["weight"], tensors["weight"], rtol=2e-3, atol=1e-3)


def test_bad_input_ends_in_one_line(tmp_path: Path, run: tuple[Path, dict[float, torch.Tensor]]) -> None:
    with pytest.raises(ConfigError, match="no snapshots"):
        rebuild([], 0.1)
    with pytest.raises(ConfigError, match=r"in \(0, 0.28\), but got 0.4"):
        rebuild(find_snapshots(run[0]), 0.4)
    torn = tmp_path / "ema-000000000008.safetensors"
    torn.write_bytes(find_snapshots(run[0])[0].read_bytes()[:50])
    with pytest.raises(ConfigError, match="is damaged"):
        rebuild([torn], 0.1)


def test_a_flipped_bit_and_what_is_not_finite_are_refused(tmp_path: Path) -> None:
    spec = PowerEmaSpec(sigma_rels=(0.1,), dtype="fp32")
    path = write_snapshot(tmp_path, spec, {"0/weight": torch.ones(4), "0/scale": torch.ones(())}, 8)
    assert rebuild([path], 0.1)[0]["weight"].shape == (4,)
    payload = path.read_bytes()
    path.write_bytes(payload[:-3] + bytes([payload[-3] ^ 1]) + payload[-2:])
    with pytest.raises(ConfigError, match="does not match its SHA-256"):
        rebuild([path], 0.1)
    path = write_snapshot(tmp_path, spec, {"0/weight": torch.full((4,), float("nan"))}, 8)
    with pytest.raises(ConfigError, match="not finite"):
        rebuild([path], 0.1)


def test_a_width_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must name each width once, but got \[0\.1, 0\.1\]"):
        parse(PowerEmaSpec, {"sigma_rels": [0.1, 0.1]}, "settings")
