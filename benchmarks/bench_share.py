"""What a device gives in all to small runs that share it: P processes, each with one run or with a pack of K.

`make bench-share`, or e.g. `python benchmarks/bench_share.py 15x1 6x10 3x10 --model dit`: every PxK is P processes that
train packs of K runs at the same time, each for `--seconds`. The processes of all PxK are started once and take turns,
round by round and in another order in each; those that wait keep their memory and compute nothing.

Images per second are those of all runs of a PxK together. A ratio to the first PxK is taken within a round, and its
median over the rounds counts, with quartiles beside it; above 1 it is faster than the first. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from statistics import median
from typing import Any

import torch
from bench_pack import MODELS, here, settings
from rounds import device_name, finish, spread

from curriculum_ray.data import load_data
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

LIMIT_S = 600.0
"""How long a process waits for the others, before it gives up."""


def shared(text: str) -> tuple[int, int]:
    """Processes and runs in each: "6x10" is six processes with packs of ten."""
    processes, _, pack = text.partition("x")
    if not (processes.isdecimal() and pack.isdecimal() and int(processes) and int(pack)):
        raise argparse.ArgumentTypeError(f"must be processes x runs in each, e.g. 6x10, but got {text}")
    return int(processes), int(pack)


def work(model: str, pack: int, batch: int, seconds: float, rounds: int, turn: Any, speeds: Any) -> None:
    """A process: in each of its turns it trains for `seconds`, and puts its images per second into `speeds`."""
    torch.set_num_threads(1)
    device = here()
    configs = [settings(model, place, batch) for place in range(pack)]
    data, world = load_data(configs[0].data), World(device=device)
    trainer = PackedTrainer(configs, data, world) if pack > 1 else Trainer(configs[0], data, world)
    # A GPU has the next step before it has finished one.
    together = 4 if device.type == "cuda" else 1
    for _ in range(rounds):
        turn.wait(LIMIT_S)
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(together):
                trainer.step()
            finish(device)
            steps += together
        speeds.put(steps * pack * batch / (time.perf_counter() - start))
        turn.wait(LIMIT_S)


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(
        description="What a shared device gives in all, see the head of the file."
    )
    parser.add_argument("shares", nargs="*", type=shared, metavar="PxK", help="e.g. 4x1 1x4, the default")
    parser.add_argument("--model", choices=sorted(MODELS), default="unet", help="the network, with its data")
    parser.add_argument("--batch", type=int, default=128, help="images in a step of one run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count; one more comes before")
    options = parser.parse_args()
    if min(options.batch, options.rounds) < 1 or options.seconds <= 0:
        parser.error("--batch and --rounds must be at least 1, and --seconds above 0")
    shares = list(dict.fromkeys(options.shares or [(4, 1), (1, 4)]))
    if len(shares) < 2:
        parser.error("at least two different PxK are compared")
    context = multiprocessing.get_context("spawn")
    turns = {share: context.Barrier(share[0] + 1) for share in shares}
    speeds = context.Queue()
    for share, turn in turns.items():
        for _ in range(share[0]):
            arguments = (
                options.model,
                share[1],
                options.batch,
                options.seconds,
                options.rounds + 1,
                turn,
                speeds,
            )
            context.Process(target=work, args=arguments, daemon=True).start()
    found: dict[tuple[int, int], list[float]] = {share: [] for share in shares}
    for place in range(options.rounds + 1):
        shift = place % len(shares)
        for share in shares[shift:] + shares[:shift]:
            turns[share].wait(LIMIT_S)
            turns[share].wait(LIMIT_S)
            together = sum(speeds.get(timeout=LIMIT_S) for _ in range(share[0]))
            if place:
                found[share].append(together)
    where = device_name(here())
    print(
        f"{where}, torch {torch.__version__}, {options.model}: {options.rounds} rounds of {options.seconds:g} s"
    )
    first, result = found[shares[0]], {}
    for share, each in found.items():
        name = "{}x{}".format(*share)
        ratios = [mine / theirs for mine, theirs in zip(each, first, strict=True)]
        result[name] = round(median(ratios), 3)
        words = f"{median(ratios):8.3f} of the first {spread(ratios)}"
        print(f"  {name:>8} {median(each):12.1f} images/s  {words}")
    print(json.dumps({"over_first": result, "model": options.model, "device": where}))


if __name__ == "__main__":
    main()
