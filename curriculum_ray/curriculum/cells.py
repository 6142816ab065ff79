"""The cells of u-space: the part of [0, 1) that belongs to each discrete noise level."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base import Base, level_of, u_of
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["Translation", "UncalibratedTimesteps", "boundaries", "inner_cells", "translate"]


@dataclass(frozen=True)
class UncalibratedTimesteps:
    """T timesteps whose noise schedule is not known (0 is cleanest, T-1 noise): enough for base "uniform".

    Methods that need the log-SNR raise `ConfigError`, which says how to pass it.
    """

    count: int
    kind = "timestep"

    def from_time(self, v: Tensor) -> Tensor:
        """t = floor(v·T), long; v in [0, 1), 1 is noise."""
        return (v * self.count).long().clamp(0, self.count - 1)

    def from_sigma(self, sigma: Tensor) -> Tensor:
        """Refused: the noise schedule is not known."""
        raise self._unknown()

    def from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Refused: the noise schedule is not known."""
        raise self._unknown()

    def log_snr(self, level: Tensor) -> Tensor:
        """Refused: the noise schedule is not known."""
        raise self._unknown()

    def _unknown(self) -> ConfigError:
        return ConfigError(
            "this schedule reads the log-SNR, which num_timesteps does not determine: "
            "pass levels=DiscreteTimesteps(alphas_cumprod) instead"
        )


def boundaries(base: Base, levels: NoiseLevels) -> Tensor:
    """The T + 1 edges of T discrete levels' cells: level t is drawn when u is in [edge_t, edge_t+1).

    edge_t is the smallest u whose level is at least t, found by bisection through `level_of` itself, to
    rounding. Returns float64 (T + 1,) on the CPU, ascending from 0 to 1; a level that the base distribution
    never draws has an empty cell.
    """
    count = levels.count
    assert count is not None
    wanted = torch.arange(1, count)
    low = torch.zeros(count - 1, dtype=torch.float64)
    high = torch.ones(count - 1, dtype=torch.float64)
    for _ in range(64):
        middle = (low + high) / 2
        reached = level_of(base, middle, levels) >= wanted
        high, low = torch.where(reached, middle, high), torch.where(reached, low, middle)
    high[level_of(base, torch.zeros_like(high), levels) >= wanted] = 0.0
    return torch.cat([torch.zeros(1, dtype=torch.float64), high, torch.ones(1, dtype=torch.float64)])


@contextmanager
def applying(what: str, levels: NoiseLevels) -> Iterator[None]:
    """Raise ConfigError, one line that begins with `what`, where it does not apply to `levels`."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{what} does not apply to {levels.kind} levels: {error}") from None


def inner_cells(base: Base, levels: NoiseLevels) -> Tensor | None:
    """The inner borders of discrete levels' cells, or None; ConfigError where `base` does not apply."""
    with applying(f"base {base.kind}", levels):
        if levels.count is not None:
            return boundaries(base, levels)[1:-1].contiguous()
        level_of(base, torch.full((1,), 0.5, dtype=torch.float64), levels)
    return None


class Translation:
    """The map from u of one base distribution to the u of another for the same noise level.

    Ends stay at 0 and 1. Between the edges of a discrete level's cell the map is linear.
    """

    def __init__(self, source: Base, target: Base, levels: NoiseLevels) -> None:
        self._source, self._target, self._levels = source, target, levels
        self._same = source == target
        if levels.count is not None and not self._same:
            self._edges, self._goals = boundaries(source, levels), boundaries(target, levels)
            self._inner = self._edges[1:-1].contiguous()

    def __call__(self, u: Tensor) -> Tensor:
        """Map u, float64 of any shape."""
        if self._same:
            return u
        if self._levels.count is None:
            inner = u_of(self._target, level_of(self._source, u, self._levels), self._levels)
            return torch.where(u <= 0, 0.0, torch.where(u >= 1, 1.0, inner))
        edges, goals = self._edges, self._goals
        cell = torch.searchsorted(self._inner, u, right=True)
        share = (u - edges[cell]) / (edges[cell + 1] - edges[cell])
        return goals[cell] + share.nan_to_num(0.0).clamp(0, 1) * (goals[cell + 1] - goals[cell])


def translate(u: Tensor, source: Base, target: Base, levels: NoiseLevels) -> Tensor:
    """Map u, float64 of any shape, as `Translation` does."""
    return Translation(source, target, levels)(u)
