"""What the sampler costs: sample + update beside torch.randint and beside bare training steps.

`make bench-sampler`. Pacing is the paper's plateau, which exchanges losses every 10 steps. Every rank has one
thread, as a trial of a search has. Times are medians over windows of 10 steps. A training step is forward, loss,
backward and optimizer step, without sampler; the sampler's share is its time inside that very loop over the
step's. The last line is JSON: `sampler_share_of_step` is the share of the digits U-Net's step, the worse of one and
two ranks; `host_us` the microseconds of sample + update (per-sample losses) alone in a loop, in one process.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.data import Conditioning
from curriculum_ray.models import UNetSpec, build_model

T, WINDOW, BATCH, DIT_BATCH = 1000, 10, 128, 2
RANKS = 2


def plateau_sampler(**changes: Any) -> TimestepSampler:
    """The paper's schedule, too patient to end: a run that has reached its last stage costs less."""
    pacing = {"rule": "plateau", "patience": 10**9, **changes}
    data = {
        "clusters": {"by": "uniform", "count": 20},
        "order": {"direction": "easy_to_hard"},
        "pacing": pacing,
    }
    return TimestepSampler(CurriculumSchedule.from_dict(data), num_timesteps=T, window=WINDOW)


def alone(call: Callable[[], object], windows: int = 200) -> float:
    """Microseconds of one call in a loop."""
    times = []
    for _ in range(windows):
        start = time.perf_counter()
        for _ in range(WINDOW):
            call()
        times.append((time.perf_counter() - start) / WINDOW)
    return median(times) * 1e6


def in_training(step: Callable[[torch.Tensor], torch.Tensor], batch: int, windows: int) -> dict[str, float]:
    """Milliseconds of a bare step and microseconds of the sampler inside of the same loop."""
    sampler, steps, samplers = plateau_sampler(), [], []
    for _ in range(windows):
        own, begin = 0.0, time.perf_counter()
        for _ in range(WINDOW):
            start = time.perf_counter()
            t = sampler.sample(batch)
            own += time.perf_counter() - start
            loss = step(t)
            start = time.perf_counter()
            sampler.update(loss)
            own += time.perf_counter() - start
        steps.append((time.perf_counter() - begin - own) / WINDOW)
        samplers.append(own / WINDOW)
    # The first window warms up, where there are more.
    step_s, sampler_s = median(steps[1:] or steps), median(samplers[1:] or samplers)
    return {"step_ms": step_s * 1e3, "sampler_us": sampler_s * 1e6, "share": sampler_s / step_s}


def training_step(
    model: nn.Module, shape: tuple[int, ...], forward: Callable[..., torch.Tensor]
) -> Callable[..., Any]:
    """A bare DDPM step on constant images of `shape` (B, C, H, W)."""
    if torch.distributed.is_initialized():
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    images, noise = torch.zeros(shape), torch.randn(shape)
    labels = torch.zeros(shape[0], dtype=torch.long)
    signal = (1 - torch.linspace(1e-4, 0.02, T)).cumprod(0).sqrt()

    def step(t: torch.Tensor) -> torch.Tensor:
        s = signal[t][:, None, None, None]
        losses = ((forward(model, s * images + (1 - s**2).sqrt() * noise, t, labels) - noise) ** 2).mean(
            (1, 2, 3)
        )
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        return losses

    return step


def digits_step(batch: int) -> Callable[..., Any]:
    """The search's default network on 8x8 digits."""
    model = build_model(UNetSpec(), (1, 8, 8), Conditioning("class", 10))
    return training_step(model, (batch, 1, 8, 8), lambda net, x, t, labels: net(x, t.float(), labels))


def dit_step(batch: int) -> Callable[..., Any]:
    """DiT-S/2 (Peebles & Xie 2023, table 1) on 32x32x4 latents."""
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=64,
        num_layers=12,
        sample_size=32,
        patch_size=2,
        in_channels=4,
    )
    return training_step(model, (batch, 4, 32, 32), lambda net, x, t, y: net(x, t, y).sample)


def measure(rank: int, world: int, folder: str) -> None:
    """Measure as one of `world` ranks, and write rank 0's numbers to the folder."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
        )
    batch = BATCH // world
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    numbers: dict[str, Any] = {"torch.randint": alone(lambda: torch.randint(0, T, (batch,)))}
    per_sample = torch.rand(batch)
    for name, loss, changes in (
        ("sample + update, mean loss", per_sample.mean(), {}),
        ("sample + update, per-sample losses", per_sample, {}),
        ("sample + update, normalised losses", per_sample, {"normalize": True}),
    ):
        sampler = plateau_sampler(**changes)
        numbers[name] = alone(lambda s=sampler, value=loss: (s.sample(batch), s.update(value)))  # type: ignore[misc]
    numbers["digits U-Net"] = in_training(digits_step(batch), batch, windows=12)
    numbers["DiT-S/2"] = in_training(dit_step(DIT_BATCH // world), DIT_BATCH // world, windows=1)
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    if rank == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(numbers))


def table(one: dict[str, Any], two: dict[str, Any]) -> str:
    """The measurements side by side."""
    lines = [f"{'per step':<54}{'1 process':>14}{f'{RANKS} ranks':>14}"]
    for name in one:
        if not isinstance(one[name], dict):
            lines.append(f"{name + f' (batch {BATCH} in all)':<54}{one[name]:>11.1f} µs{two[name]:>11.1f} µs")
            continue
        batch = BATCH if name == "digits U-Net" else DIT_BATCH
        a, b = one[name], two[name]
        lines += [
            f"{name + f', bare step (batch {batch} in all)':<54}{a['step_ms']:>11.1f} ms{b['step_ms']:>11.1f} ms",
            f"{'  sample + update in that loop':<54}{a['sampler_us']:>11.1f} µs{b['sampler_us']:>11.1f} µs",
            f"{'  share of the step':<54}{a['share']:>12.2%}  {b['share']:>12.2%}",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure in one process, then on two ranks, and print the table and the JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, RANKS):
            torch.multiprocessing.spawn(measure, args=(world, folder), nprocs=world)
        one, two = (json.loads(Path(folder, f"{world}.json").read_text()) for world in (1, RANKS))
    print(table(one, two))
    share = max(one["digits U-Net"]["share"], two["digits U-Net"]["share"])
    host_us = one["sample + update, per-sample losses"]
    print(json.dumps({"sampler_share_of_step": round(share, 5), "host_us": round(host_us, 2)}))


if __name__ == "__main__":
    main()
