"""Probe models as Ray tasks give what they give in this process, in the order asked for."""

from __future__ import annotations

import pytest
import torch

from curriculum_ray.data import load_data
from curriculum_ray.diffusion import DDPMSpec
from curriculum_ray.distributed.connection import connected
from curriculum_ray.distributed.difficulty import ProbeTask, run_probes
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.models import UNetSpec
from curriculum_ray.training.difficulty import ProbeSpec, train_probe


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_tasks_return_the_same_probes_in_order() -> None:
    spec = ProbeSpec(
        process=DDPMSpec(num_timesteps=20),
        model=UNetSpec(base_channels=4, channel_mult=(1,), attention=False),
        intervals=2,
        steps=20,
        batch_size=8,
        watched=4,
        gradient_batches=2,
        gradient_batch_size=4,
        gradient_points=1,
    )
    tasks = [ProbeTask(0, 1), ProbeTask(0, 0), ProbeTask(1, gradients=True)]
    done: list[int] = []
    with connected(1, ResourceSpec()):
        runs = run_probes(spec, tasks, on_done=done.append)
    assert done == [1, 2, 3]
    assert [(run.seed, run.interval, len(run.gradients)) for run in runs] == [
        (0, 1, 0),
        (0, 0, 0),
        (1, None, 1),
    ]
    data = load_data(spec.data)
    for task, run in zip(tasks, runs, strict=True):
        here = train_probe(spec, data, task.seed, task.interval)
        assert torch.allclose(run.losses, here.losses, rtol=1e-4)
