"""Held-out losses of runs, as metrics by images seen, and compared between runs and arms by noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from curriculum_ray.runs.result import HeldoutLosses, Measured
from tuning.evidence.arms import Arm

__all__ = ["HeldoutMap", "LevelGain", "as_history", "as_metrics", "beside", "heldout_map", "of_arm"]


def as_metrics(losses: Sequence[float]) -> dict[str, float]:
    """`heldout_loss`, the plain mean over the levels, and the loss at each: `heldout_loss_00` is the cleanest."""
    levels = {f"heldout_loss_{level:02d}": loss for level, loss in enumerate(losses)}
    return {"heldout_loss": fmean(losses), **levels}


def as_history(run: Measured) -> list[tuple[int, dict[str, float]]]:
    """The metrics of each measurement of a run, with images seen; empty where nothing was measured."""
    return [] if run.heldout is None else [(seen, as_metrics(losses)) for seen, losses in run.heldout.history]


def _gain(loss: float, other: float) -> float:
    """Percent of `other` by which `loss` is lower."""
    return 100 * (other - loss) / other if other else math.nan


@dataclass(frozen=True)
class LevelGain:
    """The held-out losses of two runs after equally many images."""

    images: int
    u: list[float]
    """Each level, 0 clean, 1 noise."""
    a: list[float]
    b: list[float]
    gain: list[float]
    """Percent by which b's loss is lower at each level."""
    mean_a: float
    mean_b: float
    mean_gain: float
    """Percent by which b's mean loss is lower."""


def beside(a: HeldoutLosses | None, b: HeldoutLosses | None) -> LevelGain | str | None:
    """Compare the last measurement that two runs share, or say why there is none; None where neither has any."""
    if not a and not b:
        return None
    if not a or not b:
        return f"held-out losses are not compared: {'B' if a else 'A'} has none"
    if (a.fingerprint, a.u) != (b.fingerprint, b.u):
        return (
            f"held-out losses are not compared: they were not measured alike "
            f"({a.fingerprint} and {b.fingerprint})"
        )
    ours, theirs = dict(a.history), dict(b.history)
    if not (shared := ours.keys() & theirs.keys()):
        return "held-out losses are not compared: no two were measured after equally many images"
    images = max(shared)
    left, right = ours[images], theirs[images]
    return LevelGain(
        images,
        list(a.u),
        list(left),
        list(right),
        [_gain(y, x) for x, y in zip(left, right, strict=True)],
        fmean(left),
        fmean(right),
        _gain(fmean(right), fmean(left)),
    )


@dataclass(frozen=True)
class HeldoutMap:
    """An arm's held-out loss against uniform sampling's: paired by seed, then averaged over the seeds."""

    name: str
    u: list[float]
    """Each of the K levels, 0 clean, 1 noise."""
    images: list[int]
    """Images seen at each of the M measurements."""
    gain: list[list[float]]
    """K rows of M: percent of uniform sampling's loss by which the arm's is lower; below 0 it is higher."""
    error: list[list[float]]
    """The standard error of each gain over the seeds; infinite for a single seed."""
    mean: float
    """The gain in the mean loss over all levels at the last measurement."""
    mean_error: float
    """Its standard error."""
    seeds: int


def heldout_map(arm: Arm, uniform: Arm) -> HeldoutMap | None:
    """The map of an arm's confirmations; None where no seed was measured alike and equally often in both arms."""
    ours, theirs = of_arm(arm), of_arm(uniform)
    prints = {(found.fingerprint, found.u) for found in (*ours.values(), *theirs.values())}
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds or len(prints) != 1:
        return None
    tables = [(dict(ours[seed].history), dict(theirs[seed].history)) for seed in seeds]
    images = sorted(set.intersection(*({*mine} & {*other} for mine, other in tables)))
    if not images:
        return None
    u = list(ours[seeds[0]].u)
    cells = [
        [[_gain(mine[seen][level], other[seen][level]) for mine, other in tables] for seen in images]
        for level in range(len(u))
    ]
    last = images[-1]
    means = [_gain(fmean(mine[last]), fmean(other[last])) for mine, other in tables]
    return HeldoutMap(
        name=arm.name,
        u=u,
        images=images,
        gain=[[fmean(cell) for cell in row] for row in cells],
        error=[[_error(cell) for cell in row] for row in cells],
        mean=fmean(means),
        mean_error=_error(means),
        seeds=len(seeds),
    )


def of_arm(arm: Arm) -> dict[int, HeldoutLosses]:
    """The held-out losses of an arm's confirmations, by seed."""
    return {
        record.seed: record.heldout
        for record in arm.confirmed
        if record.heldout is not None and record.heldout.history
    }


def _error(values: Sequence[float]) -> float:
    known = len(values) > 1 and all(map(math.isfinite, values))
    return stdev(values) / math.sqrt(len(values)) if known else math.inf
