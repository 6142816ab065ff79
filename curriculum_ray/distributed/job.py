"""One training run inside a Ray Train worker: resume, train, evaluate, and leave its results in its folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.data.augmentation import augmented
from curriculum_ray.distributed.ingest import open_batches
from curriculum_ray.runs.folder import PROFILES
from curriculum_ray.runs.hooks import Announce, Report, RunHooks, Warned
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.runs.prepared import cached_data
from curriculum_ray.runs.result import RunResult
from curriculum_ray.runs.written import note_corrupt
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.lockstep import Lockstep
from curriculum_ray.training.loop import train
from curriculum_ray.training.packed import shared_batches
from curriculum_ray.training.prefetch import Prefetched
from curriculum_ray.training.profile import Profiled
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

__all__ = ["clear_process_state", "read_ahead", "run_job", "stays_on_host"]


def run_job(
    job: Assignment,
    world: World,
    report: Report,
    announce: Announce,
    warned: Warned = lambda: False,
) -> RunResult | None:
    """Run `job` to its end on this rank; returns its result on rank 0, None on others and if it was stopped."""
    config = job.config
    conditional = config.model.conditional is not False
    data: Dataset | DataInfo
    ahead: Prefetched | None = None
    if config.data.streamed:
        data, stream = open_batches(config, conditional, lambda names: note_corrupt(job.folder, names))
        ahead = Prefetched(augmented(stream, config.data, config.seed), config.total_images)
    else:
        data = cached_data(config.data)
        if stays_on_host(data, world.device):
            (ahead,) = read_ahead([config.train], data)
    run = RunHooks(job, Trainer(config.train, data, world, ahead), data, report, announce, warned)
    try:
        try:
            run.catch_up()
            with _lockstep(run.trainer, job, world) as runs:
                ended = train(run.trainer, run, runs)
        finally:
            if ahead is not None:
                ahead.close()
        return run.end(ended)
    finally:
        run.close()


@contextmanager
def _lockstep(trainer: Trainer, job: Assignment, world: World) -> Iterator[Lockstep]:
    """The run as the loop takes it: where it is profiled, the first worker records."""
    if job.profile is None or world.rank:
        yield Lockstep([trainer])
        return
    profiled = Profiled([trainer], job.profile, job.folder / PROFILES)
    try:
        yield profiled
    finally:
        profiled.close()


def stays_on_host(data: Dataset, device: torch.device) -> bool:
    """Whether data, with their conditions, do not fit on a GPU beside a model: over a quarter of its free memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return data.stored.nbytes + (0 if data.condition is None else data.condition.nbytes) > free / 4


def read_ahead(configs: Sequence[TrainConfig], data: Dataset) -> list[Prefetched]:
    """The batches of each of these runs, read a batch ahead from one copy of the data in the host's memory."""
    batches = shared_batches(configs, data, torch.device("cpu"))
    return [Prefetched(own, config.total_images) for config, own in zip(configs, batches, strict=True)]


def clear_process_state() -> None:
    """Clear what a run may leave for the next in the same process: memory, default dtype, autograd mode."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
