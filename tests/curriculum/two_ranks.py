"""One rank of a two-rank run: trains on scripted losses and prints what it saw; run by test_ranks.py."""

import json
import sys

import torch
import torch.distributed as dist

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

STEPS, BATCH, WINDOW = 90, 4, 5


def make(pacing: dict, **options) -> TimestepSampler:
    data = {
        "clusters": {"by": "uniform", "count": 4},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 4, **pacing},
    }
    return TimestepSampler(
        CurriculumSchedule.from_dict(data), num_timesteps=1000, window=WINDOW, seed=3, **options
    )


def losses(step: int, rank: int) -> torch.Tensor:
    """Per-sample losses: rank 0 stands still at once, rank 1 goes on to fall, so that their mean falls."""
    level = 1.0 if rank == 0 else 5.0 - 0.05 * min(step, 40)
    return torch.full((BATCH,), level, dtype=torch.float64)


def run(sampler: TimestepSampler, rank: int, start: int = 0, stop: int = STEPS) -> list:
    history = []
    for step in range(start, stop):
        history.append((sampler.images, sampler.stage, sampler.sample(BATCH).tolist()))
        sampler.update(losses(step, rank))
    return history


def main() -> None:
    rank, store = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    result: dict = {}
    for name, pacing in (("plain", {}), ("normalized", {"normalize": True})):
        first = make(pacing)
        result[name] = run(first, rank)
        half = make(pacing)
        run(half, rank, 0, 8 * WINDOW)
        assert half.at_boundary
        # Both ranks take up the checkpoint that rank 0 wrote.
        states = [half.state_dict()]
        result[f"{name}_state"] = states[0]
        dist.broadcast_object_list(states)
        second = make(pacing)
        second.load_state_dict(json.loads(json.dumps(states[0])))
        result[f"{name}_resumed"] = run(second, rank, 8 * WINDOW)
    uneven = make({})
    try:
        for step in range(3 * WINDOW):
            uneven.sample(BATCH + rank)
            uneven.update(losses(step, rank).mean())
    except RuntimeError as error:
        result["uneven"] = str(error)
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
