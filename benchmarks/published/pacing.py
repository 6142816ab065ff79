"""Pacing families: the active share of the clusters at a share of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from curriculum_ray.curriculum.pacing import FamilyPacing, FixedExponentialPacing, SingleStepPacing
from published import Check, row

B = 0.2
X = np.linspace(0, 1, 41)[:-1]

# g of Wu et al. 2021, §4, with x = i/(aS) and b = 0.2.
WU: dict[Literal["root", "linear", "quad", "exp", "log", "step"], Callable[[float], float]] = {
    "root": lambda x: B + (1 - B) * math.sqrt(x),
    "linear": lambda x: B + (1 - B) * x,
    "quad": lambda x: B + (1 - B) * x * x,
    "exp": lambda x: B + (1 - B) / (math.e**10 - 1) * (math.e ** (10 * x) - 1),
    "log": lambda x: B + (1 - B) * (1 + math.log(x + math.e**-10) / 10),
    "step": lambda x: B + x // 1,
}


def checks() -> Iterator[Check]:
    """All of this file."""
    for rule, formula in WU.items():
        spec = FamilyPacing(rule=rule, full_share=0.5, start_fraction=B)
        ours = [spec.fraction(x) for x in X]
        yield row(f"{rule} pacing", "Wu et al. 2021, §4", ours, [formula(x) for x in X])
    steps = np.linspace(0, 6, 61)
    grows = FixedExponentialPacing(step_share=0.1, start_fraction=0.1, increase=1.9)
    # Multiplied up step by step.
    share, grown = [0.1], 0.1
    for _ in range(6):
        grown = min(grown * 1.9, 1.0)
        share.append(grown)
    ours, independent = [grows.fraction(x) for x in steps], [share[int(x)] for x in steps]
    yield row("fixed exponential pacing", "Hacohen & Weinshall 2019, §3", ours, independent)
    single = SingleStepPacing(step_share=0.1, start_fraction=0.3)
    ours, independent = [single.fraction(x) for x in steps], [0.3 ** float(x < 1) for x in steps]
    yield row("single step pacing", "Hacohen & Weinshall 2019, §3", ours, independent)
