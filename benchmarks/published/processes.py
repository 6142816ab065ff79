"""Noise schedules: betas, zero-terminal rescaling and log-SNR, written out in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, build_process
from curriculum_ray.diffusion.betas import alphas_cumprod
from curriculum_ray.diffusion.edm import generation_sigmas
from published import Check, row


def products(name: str, count: int) -> np.ndarray:
    """ᾱ_t, one factor after another."""
    betas = []
    for t in range(count):
        if name == "linear":
            beta = 1000 / count * (1e-4 + (0.02 - 1e-4) * t / (count - 1))
        else:
            f = [np.cos(((t + k) / count + 0.008) / 1.008 * np.pi / 2) ** 2 for k in (0, 1)]
            beta = 1 - f[1] / f[0]
        betas.append(min(beta, 0.999))
    return np.array([np.prod([1 - beta for beta in betas[: t + 1]]) for t in range(count)])


def checks() -> Iterator[Check]:
    """All of this file."""
    sources: dict[Literal["linear", "cosine"], str] = {
        "linear": "Ho et al. 2020, §4",
        "cosine": "Nichol & Dhariwal 2021, Eq. 17",
    }
    for name, source in sources.items():
        ours, independent = alphas_cumprod(name, 400), products(name, 400)
        yield row(f"{name} betas, T = 400", source, ours, independent)
        roots = np.sqrt(independent)
        shifted = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        zero = alphas_cumprod(name, 400, zero_terminal=True)
        yield row(f"{name} betas to SNR 0", "Lin et al. 2024, Alg. 1", zero, shifted**2, 1e-9, 1e-15)
        levels = build_process(DDPMSpec(betas=name, num_timesteps=400)).levels
        log_snr = levels.log_snr(torch.arange(400))
        yield row(
            f"log-SNR of {name} betas",
            "Kingma et al. 2021, §3.1",
            log_snr,
            np.log(independent / (1 - independent)),
        )
    t = np.linspace(0.01, 0.99, 25)
    flow = build_process(FlowSpec()).levels
    yield row(
        "log-SNR of flow times", "Liu et al. 2023, §2", flow.log_snr(torch.tensor(t)), 2 * np.log(1 / t - 1)
    )
    spec, i = EDMSpec(), np.arange(18)
    steps = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    yield row("EDM's 18 noise levels", "Karras et al. 2022, Eq. 5", generation_sigmas(spec, 18)[:-1], steps)
