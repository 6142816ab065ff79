"""The quantile function of a base distribution as lines of Python that need torch alone.

Every number stands in the text as `repr` of a float; nothing else of a schedule does. The formulas are those of
`curriculum_ray.curriculum.base`, which names their sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from curriculum_ray.curriculum import (
    Asymmetric,
    BaseSpec,
    Beta,
    CosMap,
    FluxShifted,
    LaplaceLogSnr,
    LogitNormal,
    LogNormalSigma,
    Mode,
    Normal,
    Shifted,
    SqrtShifted,
    Uniform,
)
from curriculum_ray.curriculum.base.core import TAIL

__all__ = ["flow_quantile"]

# `TAIL`, the least distance to u = 0 and u = 1.
_TAIL = f"2**{round(math.log2(TAIL))}"
_INSIDE = f"u.clamp({_TAIL}, 1 - {_TAIL})"


def flow_quantile(base: BaseSpec) -> list[str]:
    """The body of a function from `u` (float64, in [0, 1), 1 is noise) to times in [0, 1], 1 is noise.

    KeyError for a distribution over discrete timesteps.
    """
    if isinstance(base, Shifted | SqrtShifted | FluxShifted):
        *before, last = flow_quantile(base.of)
        less = f"{base.factor - 1!r}"
        return [
            *before,
            last.replace("return ", "t = ", 1),
            f"return {base.factor!r} * t / (1 + {less} * t)",
        ]
    return _FORMULAS[type(base)](base)


def _normal(base: Normal) -> list[str]:
    low, high = (0.5 * math.erfc((base.mean - t) / (base.std * math.sqrt(2))) for t in (0.0, 1.0))
    return [
        f"u = {low!r} + {high - low!r} * u",
        f"z = torch.special.ndtri({_INSIDE})",
        f"return ({base.mean!r} + {base.std!r} * z).clamp(0, 1 - {_TAIL})",
    ]


def _asymmetric(base: Asymmetric) -> list[str]:
    below = base.k * base.tau / (base.k * base.tau + 1 - base.tau)
    return [
        f"below = u * {base.tau / below!r}",
        f"above = {base.tau!r} + (u - {below!r}) * {(1 - base.tau) / (1 - below)!r}",
        f"return torch.where(u < {below!r}, below, above)",
    ]


def _logistic(mean: float, std: float) -> list[str]:
    return [f"return torch.sigmoid({mean!r} + {std!r} * torch.special.ndtri({_INSIDE}))"]


_FORMULAS: dict[type, Callable[[Any], list[str]]] = {
    Uniform: lambda base: ["return u"],
    LogitNormal: lambda base: _logistic(base.mean, base.std),
    # sigma / (1 + sigma) is the sigmoid of ln sigma.
    LogNormalSigma: lambda base: _logistic(base.mean, base.std),
    LaplaceLogSnr: lambda base: [
        f"u = {_INSIDE}",
        "tail = torch.sign(u - 0.5) * torch.log(2 * torch.minimum(u, 1 - u))",
        f"return torch.sigmoid(-({base.loc!r} + {base.scale!r} * tail) / 2)",
    ],
    Normal: _normal,
    Mode: lambda base: [
        "w = 1 - u",
        f"return (u - {base.scale!r} * (torch.cos(math.pi * w / 2) ** 2 - u)).clamp(0, 1)",
    ],
    CosMap: lambda base: ["angle = u * (math.pi / 2)", "return angle.sin() / (angle.sin() + angle.cos())"],
    Beta: lambda base: [f"return u ** {1 / base.alpha!r}"],
    Asymmetric: _asymmetric,
}
