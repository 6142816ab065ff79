"""Training speed compared with its upper bound, with no curriculum, and with diffusers' networks.

`make bench-train`. Rows: the digits' U-Net and DiT-S/2 on 32x32x4 latents, with a GPU also DiT-B/2 and DiT-XL/2 in
bfloat16, compiled, DiT-XL/2 by its blocks. Arms, in turn within each round and in another order in each:

  on         the whole loop, `train`, with a plateau over 20 clusters (too patient to end)
  off        the same with uniform sampling
  bare       forward, squared error, backward and fused AdamW of the same network on one constant batch
  diffusers  as bare, with diffusers' network of equal size: DiTTransformer2DModel of the same depth, width and heads;
             UNet2DModel of the channels whose operations are nearest to our U-Net's, also printed
  script     that network in the training step of diffusers' examples/unconditional_image_generation: noise from its
             scheduler, squared error, clipping, plain AdamW and EMAModel, not compiled; data in memory as ours

A ratio is that of images per second within one round; its median over rounds counts, with quartiles beside it.
Matrix products, convolutions and attention run in the same libraries on both sides. `ceiling` is what they leave: how
many times as fast as diffusers' step one would be that did them alone (torch.profiler, one round of steps).

loop_over_bare = off / bare. curriculum_on_over_off = on / off. ours_over_diffusers = off / diffusers: our whole loop
beside diffusers' bare step. ours_over_script = off / script: whole beside whole. heldout_share, where the data hold
items out: the time of one measurement of the held-out loss over that of the steps between two, at the default settings
and budget. The last line is JSON: the worst of all rows for each, and all rows under "rows". `mfu` is the network's
operations (FlopCounterMode) in the loop over the device's dense bfloat16 peak.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rounds import device_name, finish, spread
from torch.autograd import DeviceType
from train_arms import (
    PLATEAU,
    Row,
    bare_arm,
    dit_row,
    heldout_arm,
    loop_arm,
    network,
    operations,
    script_arm,
    unet_row,
)

from curriculum_ray.training.flops import peak_flops

# Parts of the names of what is no faster in one program than in another.
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "convolution", "attention")
RATIOS = {
    "loop_over_bare": ("off", "bare"),
    "curriculum_on_over_off": ("on", "off"),
    "ours_over_diffusers": ("off", "diffusers"),
    "ours_over_script": ("off", "script"),
}


def ceiling(arm: Callable[[], int], device: torch.device) -> float:
    """An arm's time over that of its matrix products, convolutions and attention alone."""
    cuda = device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        arm()
        finish(device)
    name = "self_device_time_total" if cuda else "self_cpu_time_total"
    # A GPU's time is reported twice: for its kernels, and again for the operations on the host that launched them.
    events = profile.key_averages()
    kernels = [event for event in events if (event.device_type != DeviceType.CPU) is cuda]
    started = [event for event in events if event.device_type == DeviceType.CPU]
    products = [event for event in started if any(part in event.key for part in PRODUCTS)]
    return sum(getattr(event, name) for event in kernels) / sum(getattr(event, name) for event in products)


def speed(arm: Callable[[], int], device: torch.device) -> float:
    """Images per second of one call, the device's work included."""
    finish(device)
    start = time.perf_counter()
    images = arm()
    finish(device)
    return images / (time.perf_counter() - start)


def measure(name: str, row: Row, rounds: int, steps: int, device: torch.device) -> dict[str, Any]:
    """All arms of one row in `rounds` rounds; prints a table and returns the medians."""
    arms = {
        "on": loop_arm(row, steps, device, PLATEAU),
        "off": loop_arm(row, steps, device, None),
        "bare": bare_arm(row.model, row, steps, device),
        "diffusers": bare_arm(row.rival, row, steps, device),
        "script": script_arm(row, steps, device),
    }
    names = list(arms)
    shares: list[float] = []
    between = 0
    if row.data.heldout is not None:
        arms["held out"], between = heldout_arm(row, device)
    for step in arms.values():
        speed(step, device)
    speeds: dict[str, list[float]] = {arm: [] for arm in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for arm in names[shift:] + names[:shift]:
            speeds[arm].append(speed(arms[arm], device))
        if between:
            # One call counts as one image: the speed is that of measurements.
            shares.append(speeds["off"][-1] / (between * speed(arms["held out"], device)))
    ours, theirs = operations(row.model, row.data), operations(row.rival, row.data)
    print(f"{name}: {rounds} rounds of {steps} steps of {row.batch}")
    for who, spec, flops in (("ours", row.model, ours), ("diffusers", row.rival, theirs)):
        weights = sum(parameter.numel() for parameter in network(spec, row.data).parameters())
        print(f"  {who:10} {weights:,} weights, {flops:.3g} operations per image")
    result: dict[str, Any] = {"ceiling": round(ceiling(arms["diffusers"], device), 3)}
    for arm, seen in speeds.items():
        print(f"  {arm:10} {median(seen):10.1f} images/s  {spread(seen)}")
    for key, (above, below) in RATIOS.items():
        ratios = [a / b for a, b in zip(speeds[above], speeds[below], strict=True)]
        result[key] = round(median(ratios), 4)
        print(f"  {key:24} {median(ratios):.3f}  {spread(ratios)}")
    if shares:
        result["heldout_share"] = round(median(shares), 4)
        print(f"  {'heldout_share':24} {median(shares):.4f}  {spread(shares)}")
    print(f"  {'ceiling':24} {result['ceiling']:.3f}  of ours_over_diffusers, without faster matrix products")
    peak = peak_flops(device)
    if peak:
        result["mfu"] = round(ours * median(speeds["on"]) / peak, 4)
        print(f"  model FLOP utilisation    {result['mfu']:.1%}")
    return result


def main() -> None:
    """Measure the rows that were asked for."""
    parser = argparse.ArgumentParser(description="Training speed, see the head of the file.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all arms")
    parser.add_argument(
        "--steps", type=int, help="steps of an arm in a round, even; by default the row's own"
    )
    parser.add_argument("--only", help="rows by name, with commas: unet,dit-s,dit-b,dit-xl")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    rows: dict[str, Callable[[], Row]] = {
        "unet": unet_row,
        "dit-s": lambda: dit_row("S/2", 12, 6, 384, 256 if cuda else 8, 20 if cuda else 2),
    }
    if cuda:
        rows["dit-b"] = lambda: dit_row("B/2", 12, 12, 768, 128, 20)
        rows["dit-xl"] = lambda: dit_row("XL/2", 28, 16, 1152, 32, 20, "blocks")
    only = options.only.split(",") if options.only else list(rows)
    if not set(only) <= set(rows):
        parser.error(f"--only must name rows of {', '.join(rows)}, but got {options.only}")
    if options.steps is not None and (options.steps < 2 or options.steps % 2):
        parser.error(f"--steps must be even and at least 2, but got {options.steps}")
    print(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    results: dict[str, Any] = {}
    for name in only:
        row = rows[name]()
        results[name] = measure(name, row, options.rounds, options.steps or row.steps, device)
    worst = {key: min(result[key] for result in results.values()) for key in RATIOS}
    costs = [result["heldout_share"] for result in results.values() if "heldout_share" in result]
    held = {"heldout_share": max(costs)} if costs else {}
    print(json.dumps({**worst, **held, "rows": results}))


if __name__ == "__main__":
    main()
