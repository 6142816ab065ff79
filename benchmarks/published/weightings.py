"""Loss weightings, for every process and prediction: the published weight times how far an error moves its target.

How a squared error of the network's output translates is not taken from `Process.error_scales` but measured: the output
is moved by one, `Process.x0_of` says where the item goes, and the noisy input says where the noise goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from curriculum_ray.diffusion import (
    DDPMSpec,
    EDMSpec,
    FlowSpec,
    Process,
    ProcessSpec,
    WeightingSpec,
    build_process,
)
from curriculum_ray.diffusion.uncertainty import EDM2Uncertainty, IntervalUncertaintySpec
from curriculum_ray.diffusion.weighting import P2, CosMap, DebiasedEstimation, MinSNR, SigmaSqrt, SoftMinSNR
from published import Check, row

PROCESSES: dict[str, ProcessSpec] = {
    "epsilon": DDPMSpec(prediction="epsilon"),
    "x0": DDPMSpec(prediction="x0"),
    "v": DDPMSpec(prediction="v"),
    "edm": EDMSpec(sigma_data=0.7),
    "flow": FlowSpec(),
}


def time_of(snr: np.ndarray) -> np.ndarray:
    """Flow's time of a signal-to-noise ratio."""
    return 1 / (1 + np.sqrt(snr))


# The squared error on which a paper puts its weight, and the weight as a function of the SNR and sigma_data.
PUBLISHED: list[tuple[WeightingSpec, str, str, Callable[[np.ndarray, float], np.ndarray]]] = [
    (MinSNR(gamma=5), "x0", "Hang et al. 2023, §3.4", lambda snr, _: np.where(snr < 5, snr, 5.0)),
    (SoftMinSNR(), "x0", "Crowson et al. 2024, §4.4", lambda snr, data: snr / (1 + snr * data**2)),
    (P2(gamma=0.7, k=2), "noise", "Choi et al. 2022, Eq. 8", lambda snr, _: (2 + snr) ** -0.7),
    (DebiasedEstimation(), "noise", "Yu et al. 2024, 2310.08442", lambda snr, _: snr**-0.5),
    (SigmaSqrt(), "velocity", "diffusers, sigma_sqrt", lambda snr, _: time_of(snr) ** -2.0),
    (
        CosMap(),
        "velocity",
        "Esser et al. 2024, §3.1",
        lambda snr, _: 2 / (np.pi - 2 * np.pi * time_of(snr) + 2 * np.pi * time_of(snr) ** 2),
    ),
]

# The weight on the error of the network's output as SNR -> 0, where the paper's formula has a limit.
LIMITS: list[tuple[WeightingSpec, dict[str, float]]] = [
    (MinSNR(gamma=5), {"epsilon": 1, "x0": 0, "v": 0, "edm": 0, "flow": 0}),
    (SoftMinSNR(), {"epsilon": 1, "x0": 0, "v": 0, "edm": 0, "flow": 0}),
    (P2(gamma=0.7, k=2), {"epsilon": 2**-0.7, "x0": 0, "v": 0, "edm": 0, "flow": 0}),
    (DebiasedEstimation(), {"x0": 0, "v": 0, "edm": 0, "flow": 0}),
    (SigmaSqrt(), {"x0": 1, "v": 1, "edm": 0.49, "flow": 1}),
    (CosMap(), {"x0": 2 / np.pi, "v": 2 / np.pi, "edm": 0.49 * 2 / np.pi, "flow": 2 / np.pi}),
]


def moved(process: Process, level: torch.Tensor) -> dict[str, np.ndarray]:
    """Squared errors of x0, of the noise and of the velocity that an error of one in the output means."""
    one, zero = torch.ones(len(level), 1), torch.zeros(len(level), 1)
    x0 = (process.x0_of(one, zero, level) - process.x0_of(zero, zero, level)).double().numpy()[:, 0]
    # What the network sees is signal·x0 + deviation·noise, and does not move.
    signal = process.corrupt(one, level, zero)[0].double().numpy()[:, 0]
    deviation = process.corrupt(zero, level, one)[0].double().numpy()[:, 0]
    noise = -signal / deviation * x0
    return {"x0": x0**2, "noise": noise**2, "velocity": (noise - x0) ** 2}


def fixed() -> Iterator[Check]:
    """The weight of each at log-SNRs from -5 to 5, and at pure noise."""
    for name, spec in PROCESSES.items():
        data = spec.sigma_data if isinstance(spec, EDMSpec) else 0.5
        for weighting, on, source, formula in PUBLISHED:
            process = build_process(spec, weighting)
            level = process.levels.from_log_snr(torch.linspace(-5, 5, 21, dtype=torch.float64))
            log_snr = process.levels.log_snr(level).double()
            ours = process.weighting(torch.ones(21, dtype=torch.float64), log_snr)
            independent = formula(np.exp(log_snr.numpy()), data) * moved(process, level)[on]
            yield row(f"{weighting.kind} on {name}", source, ours, independent, 1e-3)
    for weighting, limits in LIMITS:
        for name, limit in limits.items():
            process = build_process(PROCESSES[name], weighting)
            ours = process.weighting(torch.ones(1, dtype=torch.float64), torch.tensor([-torch.inf]).double())
            yield row(f"{weighting.kind} on {name} at SNR 0", "limit of the formula", ours, limit, 1e-9)


def unweighted() -> Iterator[Check]:
    """Losses without a weighting: EDM's lambda(sigma) = 1/c_out² is that of the network's own error."""
    process = build_process(EDMSpec(sigma_data=0.7))
    sigma = np.array([0.01, 0.3, 2.0, 40.0])
    c_out = sigma * 0.7 / np.sqrt(sigma**2 + 0.49)
    shift = moved(process, torch.tensor(sigma))["x0"]
    yield row("EDM's c_out²", "Karras et al. 2022, Table 1", shift, c_out**2, 1e-5)


def learned() -> Iterator[Check]:
    """Where the learned weightings' losses are least, and ANT's intervals."""
    for spec, name in ((EDM2Uncertainty(channels=4), "EDM2"), (IntervalUncertaintySpec(intervals=2), "ANT")):
        weighting: Any = build_process(DDPMSpec(), spec).weighting
        bias: torch.Tensor = weighting.linear.bias if name == "EDM2" else weighting.u

        def loss(u: float, weighting: torch.nn.Module = weighting, bias: torch.Tensor = bias) -> float:
            with torch.no_grad():
                bias.fill_(u)
                return float(weighting(torch.tensor([0.03, 0.05]), torch.zeros(2)).mean())

        least = minimize_scalar(loss, bracket=(-5.0, 0.0))
        yield row(f"{name}'s uncertainty at its best", "u = ln E[loss]", least.x, np.log(0.04), 1e-3)
    for intervals in (3, 5, 7):
        process = build_process(DDPMSpec(), IntervalUncertaintySpec(intervals=intervals))
        edges: Any = process.weighting.edges
        log_snr = process.levels.log_snr(torch.arange(1000)).float()
        place = torch.bucketize(log_snr, edges, right=True)
        cuts = [int(1000 * k / intervals) for k in range(intervals + 1)]
        sizes = np.diff(cuts)[::-1]
        yield row(f"ANT's {intervals} intervals", "released code: even in t", torch.bincount(place), sizes, 0)


def checks() -> Iterator[Check]:
    """All of this file."""
    yield from fixed()
    yield from unweighted()
    yield from learned()
