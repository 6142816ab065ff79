"""Samples drawn, and data sets counted, by Ray tasks: where training ran, one task for each worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor

from curriculum_ray.buckets.copy import stage
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.data import DataSpec
from curriculum_ray.data.autoencoder import decode_latents
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.tasks import cancel_unfinished
from curriculum_ray.distributed.threads import threads_of
from curriculum_ray.evaluation import EvaluationSpec, Evaluator, prepare
from curriculum_ray.evaluation.counting import Counted, Counting, ReferenceSpec
from curriculum_ray.evaluation.evaluator import with_suffix
from curriculum_ray.evaluation.sampling import Share, draw_blocks
from curriculum_ray.evaluation.tally import NumberedRows, Tally
from curriculum_ray.evaluation.trained import Trained, load_trained
from curriculum_ray.runs.prepared import items_of
from curriculum_ray.runs.stored_checkpoints import bring

__all__ = [
    "DrawingTask",
    "count_on_workers",
    "draw_on_workers",
    "draws_in_process",
    "on_workers",
    "score_on_workers",
]

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class DrawingTask:
    """What the workers draw: samples of a checkpoint."""

    checkpoint: Path
    spec: EvaluationSpec
    trust_code: bool
    """Whether a network that the checkpoint names by its import path is imported."""
    stored: Bucket | None = None
    """Where it lies in object storage, from where each worker brings it: `checkpoint` is then on the driver's disk."""

    def load(self, device: torch.device) -> Trained:
        """The network, on a worker."""
        if self.stored is None:
            return load_trained(self.checkpoint, self.spec.ema, device, trust_code=self.trust_code)
        with TemporaryDirectory(prefix="checkpoint-", dir=stage()) as into:
            path = bring(self.stored, Path(into), f"checkpoint {self.stored.shown()}")
            return load_trained(path, self.spec.ema, device, trust_code=self.trust_code)


def draws_in_process(resources: ResourceSpec) -> bool:
    """Whether no Ray is needed: one worker, on this machine."""
    return resources.workers == (1, 1) and not os.environ.get("RAY_ADDRESS")


def on_workers(work: Callable[[Share, torch.device], Result], resources: ResourceSpec) -> list[Result]:
    """What `work`, which travels pickled, returns for each share, in their order: a Ray task for each worker.

    Needs a connection to Ray. A task whose worker dies is started again; an error of one is raised here, and the others
    are cancelled.
    """
    import ray

    size = resources.workers[0]
    need = resources.per_worker
    remote: Any = ray.remote(num_cpus=need["CPU"], num_gpus=need.get("GPU", 0))(_task)
    threads = threads_of(resources)
    tasks = [remote.remote(work, Share(rank, size), resources.use_gpu, threads) for rank in range(size)]
    try:
        results: list[Result] = ray.get(tasks)
    except BaseException as error:
        cancel_unfinished(tasks)
        if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
            raise error.cause from None
        raise
    return results


def _task(work: Callable[[Share, torch.device], Result], share: Share, use_gpu: bool, threads: int) -> Result:
    torch.set_num_threads(threads)
    return work(share, torch.device("cuda" if use_gpu else "cpu"))


def score_on_workers(
    task: DrawingTask, data: DataSpec, evaluator: Evaluator, resources: ResourceSpec
) -> dict[str, float]:
    """The metrics of the samples that all workers draw; evaluator: that of `task.spec` and `data`, in this process."""
    metrics: dict[str, float] = {}
    for suffix, one in evaluator.scales():
        metrics |= with_suffix(_at_one_scale(replace(task, spec=one.spec), data, one, resources), suffix)
    return metrics


def _at_one_scale(
    task: DrawingTask, data: DataSpec, evaluator: Evaluator, resources: ResourceSpec
) -> dict[str, float]:
    lacks = evaluator.lacks_reference

    def work(share: Share, device: torch.device) -> tuple[bytes, bytes]:
        trained = task.load(device)
        mine = prepare(task.spec, items_of(data, task.spec), trained.process, data)
        drawn = mine.draw(trained.process, trained.model, trained.conditioning, device, share)
        real = mine.tally_reference(device, share) if lacks else Tally.empty()
        return drawn.to_bytes(), real.to_bytes()

    drawn, real = zip(*on_workers(work, resources), strict=True)
    return evaluator.metrics(
        [Tally.from_bytes(content) for content in drawn],
        [Tally.from_bytes(content) for content in real] if lacks else (),
    )


def draw_on_workers(task: DrawingTask, condition: Tensor | None, resources: ResourceSpec) -> Tensor:
    """The samples that all workers draw, latents decoded: uint8 images (n, C, H, W), else float32.

    condition: that of each sample, or None.
    """

    def work(share: Share, device: torch.device) -> list[tuple[Any, Any]]:
        trained = task.load(device)
        data, found = trained.config.data, []
        for block, items in draw_blocks(
            task.spec,
            trained.process,
            trained.model,
            trained.shape,
            condition,
            device,
            share,
        ):
            images = items if data.vae is None else decode_latents(data, items, device)
            found.append((list(block), images.cpu().numpy()))
        return found

    rows = NumberedRows()
    for blocks in on_workers(work, resources):
        for numbers, items in blocks:
            rows.add(torch.tensor(numbers), torch.from_numpy(items.copy()))
    samples = rows.rows
    assert samples is not None
    return samples


def count_on_workers(spec: ReferenceSpec, resources: ResourceSpec) -> list[Counted]:
    """The shares of a data set that the workers have counted."""
    return on_workers(lambda share, device: Counting(spec).count(device, share), resources)
