"""One rank of test_parallel.py: short trainings, sharded or replicated. Arguments: rank, world size, folder, jobs."""

from __future__ import annotations

import json
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from curriculum_ray.data import load_data
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World


def train(rank: int, size: int, folder: str, jobs: list[dict[str, Any]]) -> None:
    """Run `jobs` one after another in one group of `size` ranks; each writes its checkpoint, and every
    rank the held-out losses after each step.

    A job holds "name", "settings", "steps", and maybe "resume" (a job of this folder) and "world" (1: rank 0 alone).
    """
    torch.set_num_threads(1)
    # What is compiled is traced; machine code would take minutes.
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="eager")
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{place}/group", rank=rank, world_size=size)
    try:
        for job in jobs:
            alone = job.get("world") == 1
            if not alone or rank == 0:
                _run(place, job, World() if alone else World(rank, size, wrap=DistributedDataParallel), rank)
            dist.barrier()
    finally:
        dist.destroy_process_group()


def _run(place: Path, job: dict[str, Any], world: World, rank: int) -> None:
    config = TrainConfig.model_validate(job["settings"])
    trainer = Trainer(config, load_data(config.data), world)
    if "resume" in job:
        trainer.restore(checkpoints.read(place / job["resume"]))
    assert trainer.heldout is not None
    measured = []
    for _ in range(job["steps"]):
        trainer.step()
        measured.append(trainer.heldout.measure(trainer))
    (place / f"{job['name']}-heldout-{rank}.json").write_text(json.dumps(measured))
    state = trainer.checkpoint()
    if rank == 0:
        checkpoints.write(place / job["name"], state)


if __name__ == "__main__":
    train(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
