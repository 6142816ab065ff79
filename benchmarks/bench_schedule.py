"""Does the shared schedule hold at 8, 64, 1,024 and 10,000 ranks? Measured where it can be, simulated beyond.

`make bench-schedule`. What the code does: every K steps the ranks all-reduce K losses without waiting, and read
them one window later; rank 0 alone tells the board. Simulated: K = 10 steps of 100 ms, so a window of 1 s, over a
tree of hops (NCCL's choice for so small a message) and over a ring (gloo's). A hop takes what one of gloo's takes
between processes of this machine, measured with 2 and 4 of them; each is drawn log-normally (sigma 0.5) about it, and
one in 1,000 takes 10 ms more. A rank waits where the sum has not come when its next window is full.

The pattern not taken is measured for comparison, by real calls of a real Ray actor: every rank sends its losses,
and the reply comes when all have. The last line is JSON; wait_ms_p99 is what a rank waits per window at the most
ranks, by tree.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import tempfile
import time
from typing import Any

import numpy as np

RANKS = (8, 64, 1024, 10_000)
STEPS, STEP_MS = 10, 100.0
WINDOWS = 200
SIGMA, HICCUP_SHARE, HICCUP_MS = 0.5, 1e-3, 10.0
ROUNDS = 300


def _gloo(rank: int, size: int, store: str, answers: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    row = torch.zeros(STEPS + 1, dtype=torch.float64)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        dist.all_reduce(row)
        times.append(time.perf_counter() - start)
    if rank == 0:
        answers.put(float(np.median(times[ROUNDS // 3 :])) * 1000)
    dist.barrier()
    dist.destroy_process_group()


def measured_all_reduce(size: int) -> float:
    """Milliseconds of gloo's all-reduce of one window's losses among `size` processes here (median)."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_gloo, args=(rank, size, f"{folder}/store", answers), daemon=True)
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        answer = answers.get(timeout=120)
        for process in processes:
            process.join(30)
    return answer


def hops(rng: np.random.Generator, shape: tuple[int, ...], hop_ms: float) -> np.ndarray:
    """Times of hops in milliseconds, of this shape."""
    times = hop_ms * rng.lognormal(0.0, SIGMA, shape)
    return times + HICCUP_MS * (rng.random(shape) < HICCUP_SHARE)


def tree_ms(rng: np.random.Generator, ranks: int, hop_ms: float) -> np.ndarray:
    """When each rank has the sum, shape (WINDOWS, ranks): up a binary tree to rank 0, and down again."""
    done = np.zeros((WINDOWS, ranks))
    up, down = hops(rng, done.shape, hop_ms), hops(rng, done.shape, hop_ms)
    levels = [
        np.arange(2**depth - 1, min(2 ** (depth + 1) - 1, ranks))
        for depth in range(math.ceil(math.log2(ranks + 1)))
    ]
    for level in reversed(levels[1:]):
        for side in (0, 1):
            children = level[(level - 1) % 2 == side]
            parents = (children - 1) // 2
            done[:, parents] = np.maximum(done[:, parents], done[:, children] + up[:, children])
    for level in levels[1:]:
        done[:, level] = done[:, (level - 1) // 2] + down[:, level]
    return done


def ring_ms(rng: np.random.Generator, ranks: int, hop_ms: float) -> np.ndarray:
    """When the ring is through, shape (WINDOWS, 1): 2 (n - 1) hops one after another, by their mean and spread."""
    count = 2 * (ranks - 1)
    sample = hops(rng, (100_000,), hop_ms)
    return rng.normal(sample.mean() * count, sample.std() * math.sqrt(count), (WINDOWS, 1))


def waits(finish: np.ndarray) -> np.ndarray:
    """What a rank waits per window, milliseconds: it looks one window after the sum was sent on its way."""
    return np.maximum(0.0, finish - STEPS * STEP_MS)


class AllReport:
    """The pattern not taken: replies when all ranks have reported."""

    def __init__(self) -> None:
        self.there, self.all = 0, asyncio.Event()

    async def report(self, ranks: int, losses: list[float]) -> float:
        """One rank's window; the reply is the same for all."""
        self.there += 1
        if self.there == ranks:
            self.all.set()
        await self.all.wait()
        return losses[0]


def actor_ms(ranks: int) -> float | None:
    """Milliseconds from the first of `ranks` calls to the last reply; None when it takes over a minute."""
    import ray

    remote: Any = ray.remote(num_cpus=0)(AllReport)
    served = remote.options(max_concurrency=2 * RANKS[-1])
    actor = served.remote()
    losses = [0.5] * STEPS
    ray.get(actor.report.remote(1, losses))
    fresh = served.remote()
    ray.get(fresh.__ray_ready__.remote())
    start = time.perf_counter()
    try:
        ray.get([fresh.report.remote(ranks, losses) for _ in range(ranks)], timeout=60)
    except ray.exceptions.GetTimeoutError:
        return None
    finally:
        ray.kill(actor)
        ray.kill(fresh)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure, simulate, print the table."""
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.resources import ResourceSpec

    two, four = measured_all_reduce(2), measured_all_reduce(4)
    # A ring of n has 2 (n - 1) hops; the slower estimate is taken.
    hop = max(two / 2, four / 6)
    print(
        f"gloo all-reduce of a window here: {two:.3f} ms (2 processes), {four:.3f} ms (4); a hop {hop:.3f} ms"
    )
    rng = np.random.default_rng(0)
    rows = []
    with connected(0, ResourceSpec()):
        for ranks in RANKS:
            tree, ring, actor = tree_ms(rng, ranks, hop), ring_ms(rng, ranks, hop), actor_ms(ranks)
            rows.append(
                {
                    "ranks": ranks,
                    "tree_ms_p99": round(float(np.percentile(tree, 99)), 2),
                    "wait_ms_p99": round(float(np.percentile(waits(tree), 99)), 2),
                    "ring_ms_p99": round(float(np.percentile(ring, 99)), 2),
                    "ring_wait_ms_p99": round(float(np.percentile(waits(ring), 99)), 2),
                    "actor_reply_ms": None if actor is None else round(actor, 1),
                    "board_messages_per_s": 1000 / (STEPS * STEP_MS),
                    "rejected_messages_per_s": ranks * 1000 / (STEPS * STEP_MS),
                }
            )
    names = list(rows[0])
    print("  ".join(f"{name:>23}" for name in names))
    for row in rows:
        print("  ".join(f"{row[name]!s:>23}" for name in names))
    print(
        json.dumps(
            {"ranks": rows[-1]["ranks"], "wait_ms_p99": rows[-1]["wait_ms_p99"], "hop_ms": hop, "rows": rows}
        )
    )


if __name__ == "__main__":
    main()
