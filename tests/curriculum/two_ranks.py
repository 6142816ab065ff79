"""One rank of a two-rank run: trains on scripted losses and prints what it saw; run by test_ranks.py."""

import json
import sys

import torch
import torch.distributed as dist

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

STEPS, BATCH, WINDOW = 90, 4, 5


def by_importance(**options) -> TimestepSampler:
    data = {
        "base": {"kind": "changing", "at_images": 100, "blend_images": 400, "first": {"kind": "beta"}},
        "importance": {"rule": "loss_second_moment", "bins": 4, "history": 3},
    }
    return TimestepSampler(
        CurriculumSchedule.from_dict(data), num_timesteps=1000, window=WINDOW, seed=3, **options
    )


def follow(sampler: TimestepSampler, batch: int, steps: int) -> list:
    """What is drawn and weighed where the loss rises with noise: (timestep, weight) in each step, sorted."""
    history = []
    for _ in range(steps):
        levels, weights = sampler.sample(batch), sampler.weights
        each = torch.ones(batch) if weights is None else weights
        history.append(sorted(zip(levels.tolist(), each.tolist(), strict=True)))
        sampler.update(0.1 + sampler.last_u)
    return history


def make(pacing: dict, **options) -> TimestepSampler:
    data = {
        "clusters": {"by": "uniform", "count": 4},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 5, **pacing},
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
    first = by_importance()
    result["importance"] = follow(first, BATCH, 8 * WINDOW)
    assert first.at_boundary
    states = [first.state_dict()]
    result["importance_state"] = states[0]
    dist.broadcast_object_list(states)
    second = by_importance()
    second.load_state_dict(json.loads(json.dumps(states[0])))
    result["importance_rest"] = follow(first, BATCH, 4 * WINDOW)
    result["importance_resumed"] = follow(second, BATCH, 4 * WINDOW)
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
