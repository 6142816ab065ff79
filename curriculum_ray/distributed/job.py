"""One training run inside a Ray Train worker: resume, train, evaluate, and leave its results in its folder."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from curriculum_ray.config import parse
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.distributed.ingest import open_batches
from curriculum_ray.distributed.prepared import cached_data
from curriculum_ray.distributed.run import Announce, Report, Run, Warned, note_corrupt
from curriculum_ray.training.loop import Trainer, World
from curriculum_ray.training.prefetch import Prefetched

__all__ = ["clear_process_state", "run_job"]


def run_job(
    job: dict[str, Any],
    world: World,
    report: Report,
    announce: Announce,
    warned: Warned = lambda: False,
) -> dict[str, Any] | None:
    """Run `job` to its end on this rank; returns its result on rank 0, None on others and when it was stopped.

    `job` holds "key", "config" (a RunConfig as JSON), "folder" (where results go), "checkpoints" (where checkpoints
    are written on the way; the last one goes to "folder") and "resume_from" (more folders that may hold some).
    """
    config = parse(RunConfig, job["config"], f"run {job['key']}")
    data: Dataset | DataInfo
    ahead: Prefetched | None = None
    if config.data.streamed:
        data, stream = open_batches(
            config.data,
            config.seed,
            config.model.conditional is not False,
            lambda names: note_corrupt(Path(job["folder"]), names),
        )
        ahead = Prefetched(stream, config.total_images)
    else:
        data = cached_data(config.data)
    run = Run(job, config, Trainer(config.train, data, world, ahead), data, report, announce, warned)
    try:
        ended = run.trainer.run(run.on_log, run.on_checkpoint, run.on_preview, run.on_snapshot)
    finally:
        if ahead is not None:
            ahead.close()
    return run.end(ended)


def clear_process_state() -> None:
    """Leave nothing of one run for the next in the same process: memory, default dtype, autograd mode."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
