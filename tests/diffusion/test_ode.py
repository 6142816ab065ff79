"""The solvers' orders of convergence, on an equation with a known solution."""

import math

import pytest
import torch
from torch import Tensor

from curriculum_ray.diffusion.ode import solve


def error(steps: int, heun: bool) -> float:
    """dx/ds = x from x(1) = e to x(0.5) = e^0.5."""
    start = torch.tensor([math.e], dtype=torch.float64)
    levels = [1 - 0.5 * i / steps for i in range(steps + 1)]
    return abs(solve(lambda x, s: x, start, levels, heun=heun).item() - math.exp(0.5))


@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(heun: bool, order: int) -> None:
    assert math.log2(error(50, heun) / error(100, heun)) == pytest.approx(order, abs=0.05)


def test_slopes_are_never_asked_for_at_level_zero() -> None:
    asked = []

    def slope(x: Tensor, level: float) -> Tensor:
        asked.append(level)
        return x / level

    solve(slope, torch.ones(1), [1.0, 0.5, 0.0], heun=True)
    assert asked == [1.0, 0.5, 0.5]
