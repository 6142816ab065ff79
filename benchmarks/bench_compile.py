"""How long a DiT takes to compile, and how fast it then is: as a whole, by its blocks, and not at all.

`make bench-compile`. Each arm is a fresh process with empty caches, trains on one batch of noise as latents, and tells
the seconds until its first step was done, the processor seconds in its own process of that, and the median time of a
step. The last line is JSON: each arm's figures, and `blocks_over_whole` of each, where less is better for blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import torch
from rounds import device_name

from curriculum_ray.models import DiTSpec, build_model
from curriculum_ray.models.compiled import compile_blocks, compile_network

ARMS = {"plain": None, "blocks": compile_blocks, "whole": compile_network}


def measure(arm: str, size: str, batch: int, steps: int) -> dict[str, float]:
    """Figures of one arm, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model(DiTSpec(size=size), (4, 32, 32)).to(device)
    x, target = (torch.randn(batch, 4, 32, 32, device=device) for _ in range(2))
    level = 1000 * torch.rand(batch, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    times = []
    start, own = time.perf_counter(), time.process_time()
    prepare = ARMS[arm]
    if prepare is not None:
        prepare(model)
    found: dict[str, float] = {}
    for _ in range(steps + 2):
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            loss = (model(x, level) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        if not found:
            found = {"first_step_s": time.perf_counter() - start, "own_cpu_s": time.process_time() - own}
        times.append(time.perf_counter() - begun)
    return {**found, "step_s": median(times[2:])}


def main() -> None:
    """Measure the arms one after another and print their figures."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Time to compile a DiT, see the head of the file.")
    parser.add_argument("--size", default="B/2" if cuda else "S/8", help="a published size and patch, as S/2")
    parser.add_argument("--batch", type=int, default=128 if cuda else 8)
    parser.add_argument("--steps", type=int, default=20 if cuda else 10)
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(measure(options.arm, options.size, options.batch, options.steps)))
        return
    print(
        f"{device_name(torch.device('cuda' if cuda else 'cpu'))}, DiT-{options.size}, torch {torch.__version__}"
    )
    found: dict[str, Any] = {}
    for arm in ARMS:
        with tempfile.TemporaryDirectory() as caches:
            command = [sys.executable, __file__, "--arm", arm, "--size", options.size]
            command += ["--batch", str(options.batch), "--steps", str(options.steps)]
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches, "TRITON_CACHE_DIR": caches}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[arm] = json.loads(done.stdout.splitlines()[-1])
        figures = ", ".join(f"{key} {value:.3g}" for key, value in found[arm].items())
        print(f"  {arm:7} {figures}")
    ratios = {key: round(value / found["whole"][key], 3) for key, value in found["blocks"].items()}
    print(json.dumps({**found, "blocks_over_whole": ratios}))


if __name__ == "__main__":
    main()
