"""Probe models as parallel Ray tasks: one task per seed, or per seed and interval of noise levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curriculum_ray.data import Dataset
from curriculum_ray.distributed.ingest import SharedItems
from curriculum_ray.distributed.tasks import cancel_unfinished
from curriculum_ray.runs.prepared import cached_data
from curriculum_ray.training.difficulty import ProbeRun, ProbeSpec, train_probe

__all__ = ["ProbeTask", "run_probes"]


@dataclass(frozen=True)
class ProbeTask:
    """One probe model to train: its seed, its interval of u (0 is the cleanest; None for all), and whether to measure
    gradients during training.
    """

    seed: int
    interval: int | None = None
    gradients: bool = False


def run_probes(
    spec: ProbeSpec,
    tasks: Sequence[ProbeTask],
    *,
    items: Dataset | None = None,
    use_gpu: bool = False,
    on_done: Callable[[int], None] | None = None,
) -> list[ProbeRun]:
    """Train all probes, each on one CPU core (and one GPU if asked for); returned in the order of `tasks`.

    items: what the probes learn, where `spec.data` is a stream; the tasks of a node share one copy.

    Needs a connection to Ray. `on_done` is called with the number of tasks done each time it grows. The error
    of a task that fails is raised here, and the others are cancelled; one whose worker dies is retried.
    """
    import ray

    remote = ray.remote(num_cpus=1, num_gpus=1 if use_gpu else 0)(_run)
    device = "cuda" if use_gpu else "cpu"
    shared = None if items is None else ray.put(SharedItems.of(items))
    pending = [remote.remote(spec.model_dump_json(), task, device, shared) for task in tasks]
    order = {reference: index for index, reference in enumerate(pending)}
    results: dict[int, ProbeRun] = {}
    try:
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            results[order[done[0]]] = ray.get(done[0])
            if on_done:
                on_done(len(results))
    except BaseException:
        cancel_unfinished(pending)
        raise
    return [results[index] for index in range(len(tasks))]


def _run(spec_json: str, task: ProbeTask, device: str, shared: SharedItems | None) -> ProbeRun:
    import torch

    # Ray assigns the task one core; torch would start a thread for every core of the machine.
    torch.set_num_threads(1)
    spec = ProbeSpec.model_validate_json(spec_json)
    data = cached_data(spec.data) if shared is None else shared.taken()
    return train_probe(spec, data, task.seed, task.interval, gradients=task.gradients, device=device)
