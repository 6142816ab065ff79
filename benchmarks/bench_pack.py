"""What packing gains: K runs of one network in one process as an ensemble, beside the same K runs on their own.

`make bench-pack`, or with options, e.g. `python benchmarks/bench_pack.py --pack 8 --model mlp`. Arms, in turn within
each round and in another order in each; all take as many steps of the same settings, each run with its own schedule:

  packed      one `PackedTrainer`
  separate    K trainers in one process, one after another, as a slot of a search runs its trials
  processes   K processes at the same time, which share the device and the cores

Each process has one thread, as a worker of a search has one core, or `--threads`: small networks gain nothing by more.

Images per second are those of all K runs together. A ratio is taken within a round, and its median over the rounds
counts, with quartiles beside it; above 1 packing is faster. The last line is JSON, with `packed_over_separate` and
`packed_over_processes`. On a CPU that others use too, `--cpu-time` compares the first two arms by the CPU seconds that
they took instead.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rounds import device_name, finish, spread

from curriculum_ray.config import parse
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

MODELS: dict[str, dict[str, Any]] = {
    "unet": {"data": {"name": "digits"}},
    "mlp": {"data": {"name": "mixture2d"}},
    "dit": {"data": {"name": "tones"}},
}


def settings(model: str, place: int, batch: int) -> TrainConfig:
    """The run at one place of the pack: its own seed and number of clusters."""
    values = {
        **MODELS[model],
        "seed": place,
        "batch_size": batch,
        "images": 10**7 * batch,
        "schedule": {
            "version": 1,
            "clusters": {"by": "uniform", "count": 4 + place},
            "order": {"direction": "easy_to_hard"},
            "pacing": {"rule": "plateau", "patience": 10**5},
        },
    }
    return parse(TrainConfig, values, "bench")


def here() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def alone(config: TrainConfig, steps: int, threads: int, barrier: Any, rounds: int) -> None:
    """A process of the third arm: steps between two barriers, `rounds` times."""
    torch.set_num_threads(threads)
    device = here()
    trainer = Trainer(config, load_data(config.data), World(device=device))
    for _ in range(rounds):
        barrier.wait()
        for _ in range(steps):
            trainer.step()
        finish(device)
        barrier.wait()


def arms_of(
    configs: list[TrainConfig], data: Dataset, steps: int, device: torch.device, barrier: Any
) -> dict[str, Callable[[], None]]:
    """The arms by name; each call takes `steps` steps of all runs."""
    packed = PackedTrainer(configs, data, World(device=device))
    separate = [Trainer(config, data, World(device=device)) for config in configs]

    def run_packed() -> None:
        for _ in range(steps):
            packed.step()
        finish(device)

    def run_separate() -> None:
        for trainer in separate:
            for _ in range(steps):
                trainer.step()
        finish(device)

    def run_processes() -> None:
        barrier.wait()
        barrier.wait()

    return {"packed": run_packed, "separate": run_separate, "processes": run_processes}


def main() -> None:
    """Measure one network at one K."""
    parser = argparse.ArgumentParser(description="What packing gains, see the head of the file.")
    parser.add_argument("--pack", type=int, default=4, help="K, how many runs; at least 2")
    parser.add_argument("--model", choices=sorted(MODELS), default="unet", help="the network, with its data")
    parser.add_argument("--batch", type=int, default=128, help="images in a step of one run")
    parser.add_argument("--steps", type=int, default=10, help="steps of each run in a round")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all arms")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of the first two arms")
    options = parser.parse_args()
    if min(options.pack - 1, options.batch, options.steps, options.rounds, options.threads) < 1:
        parser.error("--pack must be at least 2, and --batch, --steps, --rounds and --threads at least 1")
    device = here()
    if options.cpu_time and device.type != "cpu":
        parser.error("--cpu-time is for a CPU, but there is a GPU")
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    configs = [settings(options.model, place, options.batch) for place in range(options.pack)]
    data = load_data(configs[0].data)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(options.pack + 1)
    processes = [
        # One round more than is measured warms up.
        context.Process(
            target=alone,
            args=(config, options.steps, options.threads, barrier, options.rounds + 1),
            daemon=True,
        )
        for config in configs
        if not options.cpu_time
    ]
    for process in processes:
        process.start()
    arms = arms_of(configs, data, options.steps, device, barrier)
    names = ["packed", "separate"] if options.cpu_time else list(arms)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            arms[name]()
            if turn:
                seconds[name].append(clock() - start)
    for process in processes:
        process.join()
    where = device_name(device)
    print(f"{where}, {options.threads} threads a process, torch {torch.__version__}")
    print(
        f"{options.pack} runs of {options.model}: {options.rounds} rounds of {options.steps} steps of {options.batch}"
    )
    unit = "CPU s" if options.cpu_time else "s"
    images = options.pack * options.steps * options.batch
    for name, times in seconds.items():
        speeds = [images / one for one in times]
        print(f"  {name:24} {median(speeds):10.1f} images/{unit}  {spread(speeds)}")
    result: dict[str, Any] = {"pack": options.pack}
    for rival in names[1:]:
        ratios = [theirs / ours for ours, theirs in zip(seconds["packed"], seconds[rival], strict=True)]
        result[f"packed_over_{rival}"] = round(median(ratios), 4)
        print(f"  packed_over_{rival:11} {median(ratios):10.3f}           {spread(ratios)}")
    print(json.dumps({**result, "model": options.model, "device": where}))


if __name__ == "__main__":
    main()
