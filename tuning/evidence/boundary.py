"""When a difference is large enough at any number of seeds: the critical values of a sequential t test.

The chance of a false claim is spent seed by seed (Lan & DeMets 1983), by a plan that depends on the number of seeds
alone: after n >= 3 seeds

    left(n) = (5 / (n + 3))^3

of it is left: 0.58, 0.36, 0.24 after 3, 4, 5 seeds, 0.06 after 10, 0.01 after 20. It never runs out, and neither how
often one looks nor how many seeds are allowed enters it, so that seeds may be added after any look, without end. The
critical values make the chance of a first crossing at n seeds equal to left(n - 1) - left(n) of the level, exactly for
normal differences: Jennison & Turnbull 1991 ("Exact calculations for sequential t, chi-squared and F tests") do so for
other spending functions. Intervals with these values hold at all n at once (repeated confidence intervals, Jennison &
Turnbull 1989).

The calculation. Of the differences of n seeds only the cosine r between their vector and (1, ..., 1) matters, as
their scale is unknown. With residuals of k arms pooled, that vector has k(n - 1) + 1 dimensions. A further seed adds
k: if B is the share of its old squared length in the new one, and U the first coordinate of a random unit vector of k
dimensions, independent of r and of each other,

    r' = (r sqrt(n B) + U sqrt(1 - B)) / sqrt(n + 1),   B ~ Beta((k(n - 1) + 1) / 2, k / 2),

and t = r sqrt(k(n - 1) / (1 - r^2)). So r is a Markov chain on [-1, 1], and Gauss-Jacobi quadrature over B and U gives
its distribution among the studies without a claim so far, within 0.5% of the critical values (simulated).

Why this rule: `benchmarks/compare_rules.py` compares it with t-mixture e-processes (Wang & Ramdas 2023), which need a
seed more on average at two paired standard deviations, and with other spending functions.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FIRST_SEEDS", "critical_values", "left"]

FIRST_SEEDS = 3
"""The fewest seeds that may support a claim: with two, an interval is of no use."""
_NODES = 24
_GRID = 257


def left(seeds: int) -> float:
    """The share of the level that is left after this many seeds."""
    return 1.0 if seeds < FIRST_SEEDS else (5 / (seeds + 3)) ** 3


def critical_values(arms: int, error: float, seeds: int) -> list[float]:
    """Two-sided critical values of t after `FIRST_SEEDS`, ..., `seeds` seeds.

    arms: arms besides the control whose residuals are pooled, so that t has arms (n - 1) degrees of freedom after n
    seeds. error: the chance in (0, 1) that |t| ever exceeds its critical value without a difference.
    """
    chain = _chain(arms, error)
    while len(chain.critical) <= seeds - FIRST_SEEDS:
        chain.advance()
    return chain.critical[: max(0, seeds - FIRST_SEEDS + 1)]


@cache
def _chain(arms: int, error: float) -> _Chain:
    return _Chain(arms, error)


class _Chain:
    """The distribution of r after n seeds among the studies that have made no claim."""

    def __init__(self, arms: int, error: float) -> None:
        self.arms, self.error = arms, error
        self.critical: list[float] = []
        """By number of seeds, from `FIRST_SEEDS` on."""
        self._grid: np.ndarray
        """Values of r from -r* to r*, denser towards the ends, (_GRID,)."""
        self._below: np.ndarray
        """The probability of no claim so far and of r between -r* and each of them, (_GRID,)."""

    def advance(self) -> None:
        """Add the critical value for one more seed."""
        seeds = FIRST_SEEDS + len(self.critical)
        spent = self.error * (left(seeds - 1) - left(seeds))
        if seeds == FIRST_SEEDS:
            self._begin(spent)
        else:
            self._step(seeds, spent)

    def _begin(self, spent: float) -> None:
        from scipy.special import stdtr, stdtrit

        freedom = self.arms * (FIRST_SEEDS - 1)
        end = -float(stdtrit(freedom, spent / 2))
        self._reach((end**2 / (freedom + end**2)) ** 0.5, FIRST_SEEDS)
        t = self._grid * (freedom / (1 - self._grid**2)) ** 0.5
        self._below = stdtr(freedom, t) - stdtr(freedom, -end)

    def _step(self, seeds: int, spent: float) -> None:
        """From `seeds` - 1 to `seeds`; `spent` is the probability of a first claim there."""
        import numpy as np

        slope, shift, weight = _moves(self.arms, seeds)
        grid, below = self._grid, self._below

        def alive_below(r: np.ndarray) -> np.ndarray:
            before = (r[:, None] - shift) / slope
            return np.interp(before, grid, below) @ weight

        low, high = 0.0, 1.0
        for _ in range(45):
            middle = (low + high) / 2
            under, up_to = alive_below(np.array([-middle, middle]))
            low, high = (middle, high) if under + below[-1] - up_to > spent else (low, middle)
        self._reach(high, seeds)
        self._below = alive_below(self._grid)
        self._below -= self._below[0]

    def _reach(self, end: float, seeds: int) -> None:
        """Claims are made beyond r = ±`end`."""
        import numpy as np

        self.critical.append(end * (self.arms * (seeds - 1) / (1 - end**2)) ** 0.5)
        self._grid = end * np.cos(np.linspace(np.pi, 0, _GRID))


def _moves(arms: int, seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The quadrature of a step to `seeds` seeds: r' = slope r + shift, with these weights; each (nodes,)."""
    import numpy as np

    old = arms * (seeds - 2) + 1
    nodes, share_weight = _gauss_jacobi(arms / 2 - 1, old / 2 - 1)
    share = (1 + nodes) / 2
    unit, unit_weight = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    if arms > 1:
        unit, unit_weight = _gauss_jacobi((arms - 3) / 2, (arms - 3) / 2)
    slope = np.repeat(np.sqrt(share * (seeds - 1) / seeds), len(unit))
    shift = (np.sqrt((1 - share) / seeds)[:, None] * unit).ravel()
    return slope, shift, (share_weight[:, None] * unit_weight).ravel()


def _gauss_jacobi(a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the density proportional to (1 - x)^a (1 + x)^b on [-1, 1], each (_NODES,).

    Golub & Welsch 1969. SciPy's weights, which add up to the integral of that function, overflow for many seeds.
    """
    import numpy as np

    n = np.arange(1, _NODES)
    total = 2 * n + a + b
    first = (b - a) / (a + b + 2)
    diagonal = np.concatenate([[first], (b * b - a * a) / (total * (total + 2))])
    square = np.empty(_NODES - 1)
    square[0] = 4 * (1 + a) * (1 + b) / ((2 + a + b) ** 2 * (3 + a + b))
    n, total = n[1:], total[1:]
    square[1:] = 4 * n * (n + a) * (n + b) * (n + a + b) / (total**2 * (total**2 - 1))
    beside = np.sqrt(square)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return nodes, vectors[0] ** 2
