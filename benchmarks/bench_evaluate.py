"""What an evaluation costs on one worker and on two, and how much memory 2,000 and 50,000 samples take.

    python benchmarks/bench_evaluate.py

Speed: processes of one thread each draw their shares of the digits with an untrained U-Net, as the ranks of a run do,
and one of them scores what all have drawn; one and two take turns. Memory: the peak of a fresh process that draws and
scores for FID alone, by a network that costs nothing, so that only the evaluation is seen.

The last line is JSON: "speedup_2" (seconds of one worker over those of two), "speedup_2_cpu" (the same of the CPU time
of the slower worker and of scoring, which a busy machine does not change), "rss_gib_2k" and "rss_gib_50k" for FID
alone, and "rss_gib_50k_features" with the features of 10,000 samples.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import torch
from torch import Tensor, nn

GIB = 2**30


class Zero(nn.Module):
    """Sees no noise anywhere, and costs nothing."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


def evaluator_of(**settings: Any) -> tuple[Any, Any]:
    """The evaluation of the digits and the process."""
    from curriculum_ray.data import DataSpec, load_data
    from curriculum_ray.diffusion import DDPMSpec, build_process
    from curriculum_ray.evaluation import EvaluationSpec, prepare

    process = build_process(DDPMSpec())
    return prepare(EvaluationSpec(**settings), load_data(DataSpec()), process), process


def draw(rank: int, size: int, count: int, rounds: int, barrier: Any, drawn: Any) -> None:
    """One rank: in each round draw a share, and hand it over."""
    from curriculum_ray.data import NO_CONDITIONING
    from curriculum_ray.evaluation.sampling import Share
    from curriculum_ray.models import UNetSpec, build_model

    torch.set_num_threads(1)
    evaluator, process = evaluator_of(num_samples=count, steps=10)
    model = build_model(UNetSpec(), evaluator.drawn)
    evaluator.draw(process, model, NO_CONDITIONING, share=Share(0, 10**6))  # warm
    for _ in range(rounds):
        barrier.wait()
        start = time.process_time()
        content = evaluator.draw(process, model, NO_CONDITIONING, share=Share(rank, size)).to_bytes()
        drawn.put((content, time.process_time() - start))


@contextmanager
def workers(size: int, count: int, rounds: int) -> Iterator[tuple[Any, Any]]:
    """Processes that draw whenever this one comes to the barrier, and the queue of what they have drawn."""
    context = multiprocessing.get_context("spawn")
    barrier, drawn = context.Barrier(size + 1), context.Queue()
    started = [
        context.Process(target=draw, args=(rank, size, count, rounds, barrier, drawn)) for rank in range(size)
    ]
    for process in started:
        process.start()
    yield barrier, drawn
    for process in started:
        process.join()


def seconds(evaluator: Any, size: int, barrier: Any, drawn: Any) -> tuple[float, float]:
    """Of one evaluation by `size` workers, scoring included: by the clock, and of one core that nobody else uses."""
    from curriculum_ray.evaluation.tally import Tally

    barrier.wait()
    start = time.perf_counter()
    contents, busy = zip(*(drawn.get() for _ in range(size)), strict=True)
    scoring = time.process_time()
    evaluator.metrics([Tally.from_bytes(content) for content in contents])
    return time.perf_counter() - start, max(busy) + time.process_time() - scoring


def speedup(count: int, rounds: int) -> dict[int, tuple[float, float]]:
    """The `seconds` of one worker and of two, medians over rounds that take turns."""
    torch.set_num_threads(1)
    evaluator, process = evaluator_of(num_samples=count, steps=10)
    evaluator.metrics([evaluator.draw(process, Zero())])  # extracts the reference
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with workers(1, count, rounds) as one, workers(2, count, rounds) as two:
        for _ in range(rounds):
            for size, pair in ((1, one), (2, two)):
                times[size].append(seconds(evaluator, size, *pair))
    return {
        size: (statistics.median(each for each, _ in found), statistics.median(each for _, each in found))
        for size, found in times.items()
    }


def peak(count: int, features: int) -> float:
    """GiB that a fresh process holds at most while it evaluates `count` samples."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(count, features, queue))
    process.start()
    found: float = queue.get()
    process.join()
    return found


def measure(count: int, features: int, queue: Any) -> None:
    torch.set_num_threads(1)
    evaluator, process = evaluator_of(num_samples=count, steps=1, features=features)
    evaluator.metrics([evaluator.draw(process, Zero())])
    unit = 1 if sys.platform == "darwin" else 1024
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB)


@click.command()
@click.option(
    "--num-samples", "count", default=1_000, show_default=True, help="Samples of a timed evaluation."
)
@click.option("--rounds", default=3, show_default=True, help="Rounds of one worker and of two.")
def main(count: int, rounds: int) -> None:
    found = speedup(count, rounds)
    ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
    for place, clock in enumerate(("by the clock", "of CPU time")):
        one, two = found[1][place], found[2][place]
        line = f"{count:,} samples, {clock}: {one:.1f} s by one worker, {two:.1f} s by two, ratio {ratios[place]:.2f}"
        print(line, flush=True)
    peaks = {
        "rss_gib_2k": peak(2_000, 0),
        "rss_gib_50k": peak(50_000, 0),
        "rss_gib_50k_features": peak(50_000, 10_000),
    }
    for name, gib in peaks.items():
        print(f"{name:<22}{gib:6.3f} GiB", flush=True)
    rounded = {name: round(gib, 3) for name, gib in peaks.items()}
    speeds = {"speedup_2": round(ratios[0], 2), "speedup_2_cpu": round(ratios[1], 2)}
    print(json.dumps({**speeds, **rounded}))


if __name__ == "__main__":
    main()
