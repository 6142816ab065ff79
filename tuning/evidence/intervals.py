"""Half the lengths of the intervals of paired differences at every number of seeds, as arrays over many studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning.evidence.boundary import FIRST_SEEDS, critical_values

if TYPE_CHECKING:
    import numpy as np

__all__ = ["half_widths"]

_FEW = 2
"""Up to so many arms besides the control, the pooled noise is taken as it is."""


def half_widths(table: np.ndarray, error: float, control: int = 0) -> np.ndarray:
    """Half the length of the interval of each arm's difference from one of them, after `FIRST_SEEDS` and more seeds.

    table: scores, (..., arms, seeds). error: the chance that an interval ever misses the true difference. control: the
    place of that arm, for which the result has no meaning. Returns (..., arms, seeds - 2), empty with fewer than
    `FIRST_SEEDS`.

    As in a randomised block design with the seeds as blocks, the noise is pooled over the k + 1 arms: with residuals
    x_ij - mean_i - mean_j + mean, MSE = their sum of squares over k (n - 1) degrees of freedom, and the variance of a
    difference of two means is 2 MSE / n. One noisy arm among many hardly changes that. With three arms and more
    besides the control, the pair's own noise, half of the variance of its n differences, counts where it is greater
    than MSE. That makes intervals longer, never shorter.
    """
    import numpy as np

    k, most = table.shape[-2] - 1, table.shape[-1]
    if most < FIRST_SEEDS:
        return np.zeros((*table.shape[:-1], 0))
    # Neither changes the residuals, and both keep the sums of squares small.
    table = table - table[..., :1, :]
    table = table - table[..., :1]
    n = np.arange(1, most + 1)
    arm_means = table.cumsum(-1) / n
    seed_means = table.mean(-2)
    mean = seed_means.cumsum(-1) / n
    squares = (table**2).sum(-2).cumsum(-1) - n * (arm_means**2).sum(-2)
    squares += (k + 1) * (n * mean**2 - (seed_means**2).cumsum(-1))
    looks = slice(FIRST_SEEDS - 1, None)
    n, squares = n[looks], squares[..., looks].clip(0)
    variances = np.broadcast_to((squares / (k * (n - 1)))[..., None, :], (*table.shape[:-1], len(n)))
    if k > _FEW:
        gaps = table - table[..., control : control + 1, :]
        own = (gaps**2).cumsum(-1)[..., looks] - gaps.cumsum(-1)[..., looks] ** 2 / n
        variances = np.maximum(variances, own / (2 * (n - 1)))
    critical = np.array(critical_values(k, error, most))
    return critical * np.sqrt(2 * variances / n)
