"""From probe models to difficulty curves over K even intervals of u, which clusters and orders can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from curriculum_ray.curriculum import DifficultyCurve
from curriculum_ray.training.difficulty.convergence import final_loss, normalised, steps_until
from curriculum_ray.training.difficulty.gradients import cosines, noise_scale
from curriculum_ray.training.difficulty.probe import ProbeRun, ProbeSpec

__all__ = ["convergence_curve", "gradient_curve", "loss_curve"]


def convergence_curve(
    spec: ProbeSpec, runs: Sequence[ProbeRun], *, data: str, process: str, share: float = 0.1
) -> DifficultyCurve:
    """Difficulty = steps until `share` of each interval's decrease remains, averaged over seeds.

    runs: either one shared model per seed, or K models per seed, one for each interval. The error is the standard
    error over seeds, omitted for a single seed. Steps count from the start, the learning rate's warm-up included.
    `meta` holds each seed's steps and the mean of the normalised curves.
    """
    curves, seeds = _by_seed(spec, runs)
    steps = runs[0].steps
    remaining = torch.stack([normalised(steps, losses) for losses in curves])
    until = torch.stack([steps_until(steps, one, share) for one in remaining])
    flat = (remaining[:, -1] == 1).any(0)
    return _curve(
        "convergence",
        spec,
        until,
        seeds,
        data,
        process,
        meta={
            "unit": f"optimiser steps of {spec.batch_size} images until {share:.0%} of the decrease remains",
            "method": "one model per interval" if runs[0].interval is not None else "one shared model",
            "batch_size": spec.batch_size,
            "did_not_fall": flat.nonzero().flatten().tolist(),
            "steps": list(steps),
            "remaining": [_rounded(row) for row in remaining.mean(0)],
            "loss_start": _rounded(torch.stack(curves).mean(0)[0]),
            "loss_end": _rounded(torch.stack(curves).mean(0)[-1]),
        },
    )


def loss_curve(spec: ProbeSpec, runs: Sequence[ProbeRun], *, data: str, process: str) -> DifficultyCurve:
    """Difficulty = unweighted mean squared error at the end of training, averaged over seeds."""
    curves, seeds = _by_seed(spec, runs)
    ends = torch.stack([final_loss(runs[0].steps, losses) for losses in curves])
    unit = f"mean squared error after {spec.steps:,} steps of {spec.batch_size} images"
    return _curve("loss", spec, ends, seeds, data, process, meta={"unit": unit})


def gradient_curve(spec: ProbeSpec, runs: Sequence[ProbeRun], *, data: str, process: str) -> DifficultyCurve:
    """Difficulty = gradient noise scale in images, averaged over seeds; similarity = cosines of gradients.

    Both are taken over `spec.gradient_points` points of training. n images cannot resolve a noise scale above n:
    where noise hides the gradient, or nearly does, the difficulty is n, and `meta` lists the interval in
    `at_least`.
    """
    seeds = [run.seed for run in runs]
    limit = spec.gradient_images
    scales = torch.stack([noise_scale(run.gradients) for run in runs])
    unresolved = (scales >= limit).any(0)
    scales = scales.clamp_max(limit)
    similarity = torch.stack([cosines(run.gradients) for run in runs])
    return _curve(
        "gradient",
        spec,
        scales,
        seeds,
        data,
        process,
        similarity=tuple(tuple(_rounded(row)) for row in similarity.mean(0)),
        meta={
            "unit": "images",
            "points": [moment.step for moment in runs[0].gradients],
            "at_least": unresolved.nonzero().flatten().tolist(),
        },
    )


def _curve(
    kind: Literal["convergence", "loss", "gradient"],
    spec: ProbeSpec,
    by_seed: Tensor,
    seeds: Sequence[int],
    data: str,
    process: str,
    *,
    meta: Mapping[str, Any],
    similarity: tuple[tuple[float, ...], ...] | None = None,
) -> DifficultyCurve:
    """The mean and standard error over seeds of difficulties (seeds, K), with the values of each seed in `meta`."""
    return DifficultyCurve(
        kind=kind,
        base=spec.distribution,
        data=data,
        process=process,
        u=tuple(k / spec.intervals for k in range(spec.intervals + 1)),
        difficulty=tuple(by_seed.mean(0).tolist()),
        stderr=_stderr(by_seed),
        similarity=similarity,
        meta={**meta, "seeds": list(seeds), "by_seed": [_rounded(row) for row in by_seed]},
    )


def _by_seed(spec: ProbeSpec, runs: Sequence[ProbeRun]) -> tuple[list[Tensor], list[int]]:
    """Losses (E, K) of each seed, from shared models, or from the models of the intervals side by side."""
    seeds = sorted({run.seed for run in runs})
    curves = []
    for seed in seeds:
        mine = [run for run in runs if run.seed == seed]
        if mine[0].interval is not None:
            mine.sort(key=lambda run: -1 if run.interval is None else run.interval)
            assert [run.interval for run in mine] == list(range(spec.intervals))
        curves.append(torch.cat([run.losses for run in mine], dim=1))
        assert curves[-1].shape[1] == spec.intervals
    return curves, seeds


def _stderr(by_seed: Tensor) -> tuple[float, ...] | None:
    count = len(by_seed)
    return tuple((by_seed.std(0) / count**0.5).tolist()) if count > 1 else None


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
