"""Relative entropy between consecutive marginals, D_KL(q_{t-1} || q_t), by Monte Carlo on the exact mixture.

It is the first of the two observations of Kim et al. 2025, "Denoising Task Difficulty-based Curriculum for
Training Diffusion Models": consecutive marginals differ more at clean levels than at noisy ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.curriculum.difficulty.marginals import Mixture

__all__ = ["RelativeEntropy", "choose_timesteps", "relative_entropy"]

# Most float64 numbers in a block of the (samples, centres) matrix, to fit a core's cache.
SAMPLE_BLOCK = 256
BLOCK_ELEMENTS = 2**18

# The value above which e^{-r} - 1 + r is not used; `_estimate` gives the reason.
K3_BELOW = 0.5


@dataclass(frozen=True)
class RelativeEntropy:
    """D_KL(q_{t-1} || q_t) in nats at M timesteps, each t in 1 … T-1 (t = 1 is the cleanest pair).

    timesteps (Tensor): long, shape (M,), ascending.
    value, stderr (Tensor): float64, shape (M,); the estimate and its standard error, at least the rounding error.
        The errors of different timesteps are correlated, because all see the same images and noise (common
        random numbers).
    estimator (tuple): which one was used at each timestep, "log_ratio" or "k3".
    num_samples (int): samples per timestep.
    """

    timesteps: Tensor
    value: Tensor
    stderr: Tensor
    estimator: tuple[str, ...]
    num_samples: int


def choose_timesteps(
    num_timesteps: int, num_centres: int, num_samples: int, budget: float = 5e8
) -> list[int]:
    """Every t in 1 … T-1 if that costs at most `budget` mixture terms, else a grid of timesteps that does.

    The grid is half geometric, because the curve bends at the clean end, and half even; it holds t = 1 and
    T-1. The default takes about 5 s on one core.
    """
    last = num_timesteps - 1
    affordable = max(int(budget / (num_centres * num_samples)), 32)
    if affordable >= last:
        return list(range(1, last + 1))
    geometric = torch.logspace(0, math.log10(last), affordable // 2, dtype=torch.float64)
    even = torch.linspace(1, last, affordable // 2, dtype=torch.float64)
    return torch.cat([geometric, even]).round().long().unique().tolist()


@torch.no_grad()
def relative_entropy(
    mixture: Mixture,
    signal: Tensor,
    noise_std: Tensor,
    *,
    timesteps: Iterable[int] | None = None,
    num_samples: int = 1024,
    seed: int = 0,
) -> RelativeEntropy:
    """Estimate D_KL(q_{t-1} || q_t) = E_{x ~ q_{t-1}} [r(x)], r = log q_{t-1}(x) - log q_t(x), in nats.

    Both densities are exact sums over all N centres, so the only error is the sampling of x, which
    `stderr` states. The memory needed beside the data does not depend on N: centres pass in blocks, each
    converted to float64 for one matrix product, and log-sum-exp is accumulated over the blocks. All timesteps
    share that product, because |x - s m_k|² is a combination of |x_0 - m_k|², ε·(x_0 - m_k) and |m_k|².

    mixture: the data, e.g. `Mixture.of(images)`.
    signal, noise_std (Tensor): s_t and σ_t > 0 of q_t = law of s_t·x_0 + σ_t·ε, shape (T,), index 0 cleanest.
    timesteps: which t, each in 1 … T-1; by default `choose_timesteps`.
    num_samples: samples of x per timestep, from the same images and noise at each; images are drawn evenly.

    Raises ValueError for shapes or values out of range.
    """
    signal, noise_std = signal.double().cpu(), noise_std.double().cpu()
    total = len(signal)
    if signal.shape != noise_std.shape or signal.ndim != 1 or total < 2 or not bool((noise_std > 0).all()):
        raise ValueError("signal and noise_std must be vectors of one length, 2 or more, with positive noise")
    if num_samples < 16:
        raise ValueError(f"num_samples must be at least 16, but got {num_samples}")
    if timesteps is None:
        timesteps = choose_timesteps(total, len(mixture.centres), num_samples)
    chosen = torch.tensor(sorted(set(timesteps)), dtype=torch.long)
    if len(chosen) == 0 or chosen[0] < 1 or chosen[-1] >= total:
        raise ValueError(f"timesteps must lie in 1 … {total - 1}, but got {chosen.tolist()}")

    generator = torch.Generator().manual_seed(seed)
    block = max(SAMPLE_BLOCK, BLOCK_ELEMENTS // len(mixture.centres))
    draws = []
    for picks in _even_picks(mixture.log_weights, num_samples, generator).split(block):
        noise = torch.randn(len(picks), mixture.dim, generator=generator, dtype=torch.float64)
        offset = torch.zeros(1, 1, dtype=torch.float64)
        if bool(mixture.variances[picks].any()):
            spread = mixture.variances[picks].sqrt()[:, None]
            offset = spread * torch.randn(noise.shape, generator=generator, dtype=torch.float64)
        draws.append((picks, offset, noise))

    def ratios_of(draw: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        picks, offset, noise = draw
        centres, variances = mixture.centres[picks].double(), mixture.variances[picks]
        return (
            _log_ratios(mixture, centres + offset, noise, signal, noise_std, chosen),
            _component_log_ratios(centres, variances, offset, noise, signal, noise_std, chosen),
        )

    ratios, conditional = zip(*_in_threads(ratios_of, draws), strict=True)
    expected = _component_relative_entropy(mixture, signal, noise_std, chosen)
    control = torch.cat(conditional, dim=1) - expected[:, None]
    value, stderr, estimator = _estimate(torch.cat(ratios, dim=1), control)
    stderr = torch.maximum(stderr, _rounding(mixture, signal, noise_std, chosen))
    return RelativeEntropy(chosen, value, stderr, estimator, num_samples)


def _rounding(mixture: Mixture, signal: Tensor, noise_std: Tensor, timesteps: Tensor) -> Tensor:
    """The approximate rounding error of r(x) at each timestep, float64, shape (M,).

    That of float64 relative to the largest terms of the log-density at level t-1: D/2·(1 + |ln 2πv|) for Gaussians of
    variance v, and s²|m|²/(2v), the terms of squared distances. It is a lower bound of the error, also where samples of
    r do not vary because the noise confuses no two images.
    """
    squares, weights = [], mixture.log_weights.exp()
    for part, share in zip(mixture.centres.split(4096), weights.split(4096), strict=True):
        squares.append((share * (part.double() ** 2).sum(1)).sum())
    s = signal[timesteps - 1]
    variance = s**2 * (weights * mixture.variances).sum() + noise_std[timesteps - 1] ** 2
    density = mixture.dim / 2 * (1 + (2 * math.pi * variance).log().abs())
    return torch.finfo(torch.float64).eps * (density + s**2 * torch.stack(squares).sum() / (2 * variance))


def _in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """`function` of each item, in order, on as many threads as torch has, each of one core.

    Torch's own threads wait for each other in every small operation, which took 25 times as long while other programs
    kept the cores busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, 8)) as pool:
            return list(pool.map(torch.no_grad()(function), items))
    finally:
        torch.set_num_threads(threads)


def _even_picks(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw component indices (count,) systematically: each appears count·w_i times, give or take one."""
    order = torch.randperm(len(log_weights), generator=generator)
    edges = log_weights[order].exp().cumsum(0)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    points = (torch.arange(count, dtype=torch.float64) + offset) / count * edges[-1]
    return order[torch.searchsorted(edges, points).clamp_max(len(order) - 1)]


def _log_ratios(
    mixture: Mixture, clean_BD: Tensor, noise_BD: Tensor, signal: Tensor, noise_std: Tensor, timesteps: Tensor
) -> Tensor:
    """r(x) at each timestep for x = s' x_0 + σ' ε (primes: level t-1), shape (M, B).

    Legend: B samples, K centres of one block, D numbers per centre, M timesteps, R the 2·B rows of x_0 and ε.
    """
    rows_RD = torch.cat([clean_BD, noise_BD])
    clean_sq_B1 = (clean_BD**2).sum(1, keepdim=True)
    cross_B1 = (clean_BD * noise_BD).sum(1, keepdim=True)
    noise_sq_B1 = (noise_BD**2).sum(1, keepdim=True)
    log_q = torch.full((2, len(timesteps), len(clean_BD)), -math.inf, dtype=torch.float64)
    block = max(BLOCK_ELEMENTS // len(clean_BD), 1)
    for start in range(0, len(mixture.centres), block):
        part = slice(start, start + block)
        centres_KD = mixture.centres[part].double()
        centres_sq_K = (centres_KD**2).sum(1)
        dots_BK, noise_dots_BK = (rows_RD @ centres_KD.T).chunk(2)
        apart_BK = (clean_sq_B1 + centres_sq_K - 2 * dots_BK).clamp_min_(0)
        along_BK = cross_B1 - noise_dots_BK
        exponent_BK = torch.empty_like(apart_BK)
        for m, t in enumerate(timesteps.tolist()):
            s_before, std_before = signal[t - 1], noise_std[t - 1]
            for which, level in enumerate((t - 1, t)):
                s = signal[level]
                step = s_before - s
                variance_K = s**2 * mixture.variances[part] + noise_std[level] ** 2
                half_inverse_variance_K = 0.5 / variance_K
                # |x - s m_k|² = s s' |x_0 - m_k|² + 2 s σ' ε·(x_0 - m_k) - (s' - s) s |m_k|²
                #                + (s' - s) s' |x_0|² + 2 (s' - s) σ' ε·x_0 + σ'² |ε|²
                rest_B1 = step * (s_before * clean_sq_B1 + 2 * std_before * cross_B1)
                rest_B1 += std_before**2 * noise_sq_B1
                torch.mul(apart_BK, -s * s_before * half_inverse_variance_K, out=exponent_BK)
                exponent_BK.addcmul_(along_BK, -2 * s * std_before * half_inverse_variance_K)
                exponent_BK.addcmul_(rest_B1, -half_inverse_variance_K)
                exponent_BK.add_(
                    step * s * centres_sq_K * half_inverse_variance_K
                    + mixture.log_weights[part]
                    - 0.5 * mixture.dim * variance_K.log()
                )
                torch.logaddexp(log_q[which, m], torch.logsumexp(exponent_BK, 1), out=log_q[which, m])
    return log_q[0] - log_q[1]


def _component_log_ratios(
    centres_BD: Tensor,
    variances_B: Tensor,
    offset_BD: Tensor,
    noise_BD: Tensor,
    signal: Tensor,
    noise_std: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """log q_{t-1}(x | i) - log q_t(x | i) for x = s' (m_i + offset) + σ' ε of component i, shape (M, B)."""
    dim = centres_BD.shape[1]
    centre_sq_B = (centres_BD**2).sum(1)
    ratios = []
    for t in timesteps.tolist():
        x_BD = signal[t - 1] * offset_BD + noise_std[t - 1] * noise_BD  # relative to s' m_i
        x_sq_B = (x_BD**2).sum(1)
        step = signal[t - 1] - signal[t]
        before_B = signal[t - 1] ** 2 * variances_B + noise_std[t - 1] ** 2
        after_B = signal[t] ** 2 * variances_B + noise_std[t] ** 2
        shifted_sq_B = x_sq_B + 2 * step * (x_BD * centres_BD).sum(1) + step**2 * centre_sq_B
        ratios.append(0.5 * (shifted_sq_B / after_B - x_sq_B / before_B - dim * (before_B / after_B).log()))
    return torch.stack(ratios)


def _component_relative_entropy(
    mixture: Mixture, signal: Tensor, noise_std: Tensor, timesteps: Tensor
) -> Tensor:
    """E over components i of D_KL(q_{t-1}(·|i) || q_t(·|i)), pairs of Gaussians, exactly; shape (M,)."""
    centre_sq = torch.cat([(part.double() ** 2).sum(1) for part in mixture.centres.split(4096)])
    weights = mixture.log_weights.exp()
    values = []
    for t in timesteps.tolist():
        before = signal[t - 1] ** 2 * mixture.variances + noise_std[t - 1] ** 2
        after = signal[t] ** 2 * mixture.variances + noise_std[t] ** 2
        excess = (before - after) / after
        shift = (signal[t - 1] - signal[t]) ** 2 * centre_sq / after
        values.append(0.5 * (weights * (mixture.dim * (excess - torch.log1p(excess)) + shift)).sum())
    return torch.stack(values)


def _estimate(ratios: Tensor, control: Tensor) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Choose the estimator of E[r] with the smaller standard error at each timestep; both arguments (M, B).

    - "log_ratio": the mean of r - β·control, with β by least squares. The plain mean of r has a variance of
      about 2·KL and drowns a small KL in noise. `control`, the log-ratio given the component i less its exact
      mean, takes most of that away at clean levels: in D(q_{t-1} || q_t) = E_i D(q_{t-1}(·|i) || q_t(·|i)) -
      E_x D(p_{t-1}(i|x) || p_t(i|x)) only the last term is then sampled, which vanishes where the noise is
      too small to confuse two images.
    - "k3": the mean of e^{-r} - 1 + r, never negative, unbiased because E[e^{-r}] = 1. For Gaussian r its
      variance is e^{2KL} - 1 - 2·KL, less than the 2·KL of the plain mean for KL < 0.63. For larger KL it
      rests on samples too rare to be seen, and mean and variance are both read too low: it is admitted only
      where log_ratio is below K3_BELOW.
    """
    centred = control - control.mean(1, keepdim=True)
    power = (centred**2).sum(1, keepdim=True)
    slope = ((ratios * centred).sum(1, keepdim=True) / power).nan_to_num(0.0)
    candidates = torch.stack([ratios - slope * control, torch.expm1(-ratios) + ratios])
    count = ratios.shape[1]
    means, stderrs = candidates.mean(2), candidates.std(2) / math.sqrt(count)
    use_k3 = (means[0] < K3_BELOW) & (stderrs[1] < stderrs[0])
    names = tuple("k3" if flag else "log_ratio" for flag in use_k3.tolist())
    return torch.where(use_k3, means[1], means[0]), torch.where(use_k3, stderrs[1], stderrs[0]), names
