"""Checks the claim "low-noise timesteps are harder" on a difficulty curve, and words the verdict."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import ConstantInputWarning, spearmanr
from torch import Tensor

from curriculum_ray.curriculum import DifficultyCurve

__all__ = ["NAMES", "NO_CLAIM", "Verdict", "agreement", "judge", "judge_all", "signed", "summary"]

# A curve says yes up to this rank correlation: for 10 intervals, p = 0.01 (one-sided) if there were no trend.
STRONG = -0.7
# A smaller ratio counts as no difference, however certain it is.
LEAST_RATIO = 1.05
# The share of u at each end whose mean is compared: the cleanest and the noisiest fifth.
END = 0.2

NAMES = {
    "relative_entropy": "relative entropy",
    "gaussian": "relative entropy of one Gaussian",
    "snr": "log-SNR",
    "convergence": "convergence",
    "convergence-paper": "convergence of one model per interval",
    "loss": "final loss",
    "gradient": "gradient noise scale",
}
"""Of each measurement, in words."""
OF_THE_PROCESS = "snr"
"""The measurement that is the same for all data: log-SNR falls with the noise level by definition."""
NO_CLAIM = "log-SNR depends on the process alone, and says nothing about the data"


@dataclass(frozen=True)
class Verdict:
    """Whether a curve says that low noise is harder.

    measure: what was measured, in words. yes: the answer. correlation: Spearman's between u (0 is the
    cleanest) and difficulty, averaged over seeds; -1 if each cleaner level is harder. by_seed: one
    per seed, where there are seeds; the error of a single one is not known. ratio: mean difficulty of the
    cleanest fifth of u over that of the noisiest; None where a difficulty is not positive. reason: why not, or "".
    """

    measure: str
    yes: bool
    correlation: float
    by_seed: tuple[float, ...]
    ratio: float | None
    reason: str

    def sentence(self) -> str:
        """E.g. "yes by convergence (Spearman −0.99; cleanest fifth 12 times the noisiest)"."""
        inside = f"Spearman {signed(self.correlation)}"
        if len(self.by_seed) > 1:
            inside += f", seeds {signed(min(self.by_seed))} to {signed(max(self.by_seed))}"
        elif self.by_seed:
            inside += ", one seed, no error known"
        if self.reason:
            inside += f": {self.reason}"
        elif self.ratio is not None:
            inside += f"; cleanest fifth {_times(self.ratio)} the noisiest"
        return f"{'yes' if self.yes else 'no'} by {self.measure} ({inside})"


def judge(name: str, curve: DifficultyCurve) -> Verdict:
    """Check the claim on the curve measured under `name`, one of NAMES.

    Yes requires all of: a rank correlation of at most -0.7, in each seed where there are seeds; a mean
    difficulty of the cleanest fifth of u above that of the noisiest fifth by more than two standard errors,
    and by at least 5%. So a flat curve and a reversed one give no. One seed has no error, which the sentence says.
    """
    difficulty = torch.tensor(curve.difficulty, dtype=torch.float64)
    edges = torch.tensor(curve.u, dtype=torch.float64)
    centre = (edges[1:] + edges[:-1]) / 2
    measured = curve.meta.get("timesteps")
    keep = (
        torch.tensor(measured) if measured and len(measured) < len(difficulty) else torch.arange(len(centre))
    )
    rows = curve.meta.get("by_seed", [])
    seeds = torch.tensor(rows or [curve.difficulty], dtype=torch.float64)
    by_seed = tuple(_rank_correlation(centre[keep], row[keep]) for row in seeds)
    correlation = sum(by_seed) / len(by_seed)
    clean, noisy = curve.mean_over(0, END), curve.mean_over(1 - END, 1)
    positive = bool((difficulty > 0).all())
    verdict = Verdict(
        measure=NAMES[name],
        yes=False,
        correlation=correlation,
        by_seed=by_seed if rows else (),
        ratio=clean / noisy if positive and noisy > 0 else None,  # a mean of the smallest numbers rounds to 0
        reason="",
    )
    return _with(verdict, _objection(verdict, clean - noisy, _end_error(curve, seeds)))


def judge_all(curves: Mapping[str, DifficultyCurve]) -> dict[str, Verdict]:
    """A verdict on each curve, by its name in NAMES, but for log-SNR, which could not come out otherwise."""
    return {name: judge(name, curve) for name, curve in curves.items() if name != OF_THE_PROCESS}


def _rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's between two vectors of one length, in [-1, 1]; 0 where one of them is constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(x.numpy(), y.numpy()).statistic)
    return 0.0 if math.isnan(correlation) else correlation


def _objection(verdict: Verdict, gap: float, error: float) -> str:
    worst = max(verdict.by_seed, default=verdict.correlation)
    if verdict.correlation >= -STRONG:
        return "the reverse, high-noise timesteps are harder"
    if verdict.correlation > STRONG:
        return "no clear trend"
    if worst > STRONG:
        return "not in every seed"
    if gap <= 2 * error:
        return "the ends differ by no more than their error"
    if verdict.ratio is not None and verdict.ratio < LEAST_RATIO:
        return f"the ends differ by less than {LEAST_RATIO - 1:.0%}"
    return ""


def _with(verdict: Verdict, objection: str) -> Verdict:
    return Verdict(**{**vars(verdict), "yes": not objection, "reason": objection})


def _end_error(curve: DifficultyCurve, seeds: Tensor) -> float:
    """Standard error of the difference between the two ends; 0 for closed forms, and for one seed: not known.

    From the spread of the seeds' own differences where there are seeds, otherwise from the curve's errors,
    taken as fully dependent within an end, because timesteps share their samples.
    """
    if len(seeds) > 1:
        gaps = torch.tensor([_gap(curve, row) for row in seeds])
        return float(gaps.std() / len(gaps) ** 0.5)
    if curve.stderr is None:
        return 0.0
    errors = curve.model_copy(update={"difficulty": curve.stderr})
    return (errors.mean_over(0, END) ** 2 + errors.mean_over(1 - END, 1) ** 2) ** 0.5


def _gap(curve: DifficultyCurve, difficulty: Tensor) -> float:
    one = curve.model_copy(update={"difficulty": tuple(difficulty.tolist())})
    return one.mean_over(0, END) - one.mean_over(1 - END, 1)


def agreement(curve: DifficultyCurve) -> tuple[bool, float]:
    """Whether gradients of neighbouring noise levels agree more than those of distant ones (ANT's premise).

    Returns (Spearman's correlation between distance in u and cosine, over all pairs, is at most -0.7; its
    value).
    """
    assert curve.similarity is not None
    table = torch.tensor(curve.similarity, dtype=torch.float64)
    rows, columns = torch.triu_indices(len(table), len(table), offset=1)
    correlation = _rank_correlation((columns - rows).double(), table[rows, columns])
    return correlation <= STRONG, correlation


def summary(verdicts: Iterable[Verdict]) -> str:
    """The claim and all answers in one sentence; without an answer, why there is none."""
    answers = ", ".join(each.sentence() for each in verdicts) or f"not measured, as {NO_CLAIM}"
    return f"Low-noise timesteps are harder: {answers}."


def signed(value: float) -> str:
    """Two decimals with a sign, and a true minus."""
    return f"{value:+.2f}".replace("-", "−")


def _times(ratio: float) -> str:
    if ratio >= 100:
        return f"{float(f'{ratio:.2g}'):,.0f} times"
    return f"{ratio:.2g} times"
