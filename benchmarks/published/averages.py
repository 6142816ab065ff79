"""Power-function EMA and its reconstruction: profiles integrated numerically, averages summed up one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from curriculum_ray.training.ema_posthoc import PowerEma, PowerEmaSpec, combination, gamma_of
from published import Check, row

SOURCE = "Karras et al. 2024"
SNAPSHOTS = {
    "early pairs": ([0.5, 0.5, 1, 1], [0.05, 0.1] * 2, 0.2),
    "three widths": ([0.4, 0.7, 1, 1], [0.1, 0.1, 0.05, 0.15], 0.12),
    "eight snapshots": (list(np.arange(1, 9) / 8), [0.1] * 8, 0.15),
}


def profile(tau: float, time: float, gamma: float) -> float:
    """p(tau) of §3.1: a density on [0, time]."""
    return (gamma + 1) * tau**gamma / time ** (gamma + 1) if tau <= time else 0.0


def relative_width(gamma: float) -> float:
    """The standard deviation of a profile on [0, 1], by quadrature."""
    moment = [quad(lambda tau, k=k: tau**k * profile(tau, 1, gamma), 0, 1)[0] for k in (1, 2)]
    return float(np.sqrt(moment[1] - moment[0] ** 2))


def weights(times: list[float], gammas: list[float], gamma: float) -> np.ndarray:
    """Algorithm 3 with its inner products by quadrature, and the released code's division by the sum."""

    def product(a: tuple[float, float], b: tuple[float, float]) -> float:
        return quad(lambda tau: profile(tau, *a) * profile(tau, *b), 0, min(a[0], b[0]), epsabs=1e-13)[0]

    kept = list(zip(times, gammas, strict=True))
    gram = np.array([[product(a, b) for b in kept] for a in kept])
    solution = np.linalg.solve(gram, np.array([product(a, (1.0, gamma)) for a in kept]))
    return solution / solution.sum()


def checks() -> Iterator[Check]:
    """All of this file."""
    for width in (0.05, 0.1, 0.25):
        root = brentq(lambda gamma, width=width: relative_width(gamma) - width, 0.05, 60)
        yield row(f"gamma of a width of {width}", f"{SOURCE}, §3.1", gamma_of(width), root, 1e-6)
    for name, (times, widths, wanted) in SNAPSHOTS.items():
        gammas, gamma = [gamma_of(width) for width in widths], gamma_of(wanted)
        ours = combination([51200 * time for time in times], gammas, 51200, gamma)
        yield row(
            f"post-hoc weights, {name}", f"{SOURCE}, Alg. 3", ours, weights(times, gammas, gamma), 1e-5, 1e-2
        )
        yield row(f"their sum, {name}", "released code", ours.sum(), 1.0)
    model = torch.nn.Linear(1, 1, bias=False).double()
    ema, gamma, values = PowerEma(model, PowerEmaSpec(sigma_rels=(0.1,))), gamma_of(0.1), []
    for step in range(1, 801):
        values.append(2 + float(np.sin(step / 100)))
        with torch.no_grad():
            model.weight.fill_(values[-1])
        ema.update(step * 8, 8)
    # The average's weight on step i is the product of what later steps leave of it.
    left = (1 - 1 / np.arange(1, 801)) ** (gamma + 1)
    share = np.array([(1 - left[i]) * np.prod(left[i + 1 :]) for i in range(800)])
    tracked = float(ema.averages[0][0])
    yield row("tracked average", f"{SOURCE}, Eq. 127", tracked, share @ np.array(values))
    ideal = quad(lambda tau: profile(tau, 800, gamma) * (2 + np.sin(tau / 100)), 0, 800)[0]
    yield row("tracked average, continuous limit", f"{SOURCE}, §3.1", tracked, ideal, 5e-3)
