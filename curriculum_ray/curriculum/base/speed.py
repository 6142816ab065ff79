"""SpeeD as released (Wang et al. 2024, 2405.17403): its density, its pairs of timesteps and its weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base.core import FixedBase
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["Speed"]

# In the released code, the meaningful timesteps end after the first one at which √(1-ᾱ) grows by less than this, with
# 1,000 timesteps.
_LEAST_GROWTH = 1e-4


class Speed(FixedBase):
    """SpeeD as its authors' released code trains (`Speed_IDDPM`, sampling and weighting "ours"). For timesteps only.

    Of T timesteps, with ∂ the central difference of neighbours (`numpy.gradient`):

    density   p(t) ∝ k for t < tau·T, 1 above.
    pairs     half of a batch is drawn from p, and each t of it brings dual(t) = |m - t| (t - m from m on), where m is
              one more than the first t with ∂√(1-ᾱ_t) < 1e-4·1000/T: 642 of 1,000 with linear betas. So the density
              is f(t) = ½·(p(t) + Σ_{dual(s)=t} p(s)): with linear betas 10.43 times higher below timestep 700 than
              above, where p alone has 5.
    weights   w_t = (1-λ) + (2λ-1)·(g_t - min g) / (max g - min g) with g = ∂(1-ᾱ) for t < tau·T, else 1.

    The code has the constant 1e-4, for T = 1,000. Its first release (`SpeeDiffusion`) derives the border from the noise
    schedule, p(t) ∝ 1 + (k-1)·½(1 + tanh(10⁶·(∂√(1-ᾱ_t) - 1e-4))): set `tau: null`. It weighs as P2 does: set
    `ceiling: null` and `weighting: {kind: p2, k: 1, gamma: 1}`. A pair needs both of its timesteps: where only part of
    the levels is active, draws are stratified over the truncated f instead.
    """

    kind: Literal["speed"] = "speed"
    """SpeeD: asymmetric density, pairs of timesteps and change-aware weights."""
    k: float = Field(default=5.0, gt=0)
    """Density below the border relative to the density above."""
    tau: float | None = Field(default=0.7, gt=0, lt=1)
    """The border as a time in (0, 1), 1 is noise; null derives it from the noise schedule."""
    ceiling: float | None = Field(default=0.6, ge=0.5, le=1)
    """λ: weights lie in [1-λ, λ] below the border and are 1 above; null weighs all equally."""

    def to_levels(self, u: Tensor, levels: NoiseLevels) -> Tensor:
        """The t whose cell of the cumulative f holds u."""
        return torch.searchsorted(self._cells(levels)[1:-1].contiguous(), u, right=True)

    def to_u(self, level: Tensor, levels: NoiseLevels) -> Tensor:
        """Refused: timesteps have cells of u, not points."""
        raise ValueError(f"base {self.kind!r} is over timesteps, which {levels.kind} levels do not have")

    def loss_weights(self, levels: NoiseLevels) -> Tensor | None:
        """w_t, float64 (T,)."""
        if self.ceiling is None:
            return None
        noise = self._noise(levels)
        growth = torch.gradient(noise)[0]
        growth = (growth - growth.min()) / (growth.max() - growth.min())
        weights = (1 - self.ceiling) + (2 * self.ceiling - 1) * growth
        return torch.where(torch.arange(len(noise)) < self._border(levels), weights, 1.0)

    def pairing(self, levels: NoiseLevels) -> Tensor:
        """The rearrangement of [0, 1) that makes w and w + ½ a pair: float64 (3, 2T), see `Rearrangement`.

        The lower half of [0, 1) is p's, piece by piece to the first p(t)/2 of each cell of f; the upper half is p's
        again, piece by piece to the rest of the cell of dual(t).
        """
        own, dual = self._own(levels), self._dual(levels)
        cells = self._cells(levels)
        filled = own / 2
        starts = []
        for t, target in enumerate(dual.tolist()):
            starts.append(float(cells[target] + filled[target]))
            filled[target] += own[t] / 2
        half = torch.cat([torch.zeros(1, dtype=torch.float64), own.cumsum(0)[:-1]]) / 2
        places = torch.cat([half, half + 0.5])
        targets = torch.cat([cells[:-1], torch.tensor(starts, dtype=torch.float64)])
        return torch.stack([places, targets, torch.cat([cells[1:], cells[1:][dual]])])

    def _noise(self, levels: NoiseLevels) -> Tensor:
        """1 - ᾱ_t, float64 (T,)."""
        if levels.count is None:
            raise ValueError(f"base {self.kind!r} is over timesteps, which {levels.kind} levels do not have")
        return torch.sigmoid(-levels.log_snr(torch.arange(levels.count)).double())

    def _growth(self, levels: NoiseLevels) -> Tensor:
        """∂√(1-ᾱ_t), scaled to 1,000 timesteps, float64 (T,)."""
        growth = torch.gradient(self._noise(levels).sqrt())[0]
        return growth * (len(growth) / 1000)

    def _end(self, levels: NoiseLevels) -> int:
        """m."""
        growth = self._growth(levels)
        flat = (growth < _LEAST_GROWTH).nonzero()
        if not len(flat):
            least = _LEAST_GROWTH * 1000 / len(growth)
            raise ConfigError(
                "base speed needs a noise schedule that flattens out, but sqrt(1 - alphas_cumprod) grows by at least "
                f"{least:g} at each of the {len(growth)} timesteps"
            )
        return min(int(flat[0]) + 1, len(growth) - 1)

    def _border(self, levels: NoiseLevels) -> int:
        """The first timestep above tau."""
        assert levels.count is not None
        return self._end(levels) if self.tau is None else round(self.tau * levels.count)

    def _own(self, levels: NoiseLevels) -> Tensor:
        """p, float64 (T,)."""
        growth = self._growth(levels)
        if self.tau is None:
            below = (1 + torch.tanh(1e6 * (growth - _LEAST_GROWTH))) / 2
        else:
            below = (torch.arange(len(growth)) < self._border(levels)).double()
        density = 1 + (self.k - 1) * below
        return density / density.sum()

    def _dual(self, levels: NoiseLevels) -> Tensor:
        end = self._end(levels)
        return (end - torch.arange(len(self._noise(levels)))).abs()

    def _cells(self, levels: NoiseLevels) -> Tensor:
        """The T + 1 borders of the cumulative f, from 0 to 1."""
        own = self._own(levels)
        both = own.clone().index_add_(0, self._dual(levels), own) / 2
        cells = torch.cat([torch.zeros(1, dtype=torch.float64), both.cumsum(0)])
        cells[-1] = 1.0
        return cells
