"""Checks everything that can be wrong with a run, before anything is started."""

from __future__ import annotations

import logging
import math

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, Dataset, load_data
from curriculum_ray.data.stream import with_note
from curriculum_ray.data.summary import quiet
from curriculum_ray.diffusion import build_process
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation import Evaluator, prepare
from curriculum_ray.evaluation.guidance import check_guidance
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.prepared import items_of
from curriculum_ray.training.heldout import check_heldout
from curriculum_ray.training.initial_weights import pinned
from curriculum_ray.training.network import start_network
from curriculum_ray.training.optimizers import check_optimizer

_LOG = logging.getLogger(__name__)

__all__ = ["check_run", "experiment_name", "with_pinned_weights"]


def experiment_name(data: Dataset | DataInfo, config: RunConfig) -> str:
    """The MLflow experiment of a data set and process, e.g. "digits/ddpm-epsilon"."""
    return f"{data.name}/{build_process(config.process).name}"


def check_run(config: RunConfig, resources: ResourceSpec) -> tuple[Dataset | DataInfo, Evaluator | None]:
    """Check everything that can be wrong with a run, before anything is started; raises ConfigError."""
    from curriculum_ray.curriculum import TimestepSampler
    from curriculum_ray.models import build_model, check_model
    from curriculum_ray.models.compiled import repeated_blocks
    from curriculum_ray.models.recomputed import recompute_blocks

    _check_resources(config, resources)
    data: Dataset | DataInfo
    # Each `DataWarning` is also in the summary, which every command prints.
    with quiet():
        data = items_of(config.data, config.evaluation) if config.data.streamed else load_data(config.data)
    process = build_process(config.process, config.weighting)
    evaluator = None
    if config.evaluation is not None:
        evaluator = prepare(config.evaluation, data, process, config.data)
        if evaluator.note is not None:
            _LOG.warning("%s", evaluator.note)
        if isinstance(data, DataInfo) and config.evaluation.reference is None:
            data = with_note(data, config.evaluation.num_samples)
    TimestepSampler(
        config.schedule, levels=process.levels, total_images=config.total_images, rank=0, world_size=1
    )
    check_model(config.model, data.shape, data.conditioning)
    if config.init_from is not None:
        start_network(config, data.shape, data.conditioning, data.vocabulary)
    check_optimizer(config.optimizer)
    if config.evaluation is not None:
        check_guidance(config.evaluation.scales, data.conditioning, config.model, subject=data.name)
    if config.model.kind == "diffusers" and (config.gradient_checkpointing or config.compile == "blocks"):
        network = build_model(config.model, data.shape, data.conditioning)
        if config.gradient_checkpointing:
            recompute_blocks(network)
        if config.compile == "blocks":
            repeated_blocks(network)
    check_heldout(config, data)
    return data, evaluator


def with_pinned_weights(config: RunConfig) -> RunConfig:
    """The settings with the hash of the weights to start from, which each worker then checks."""
    if config.init_from is None:
        return config
    return config.model_copy(update={"init_from": pinned(config.init_from)})


def _check_resources(config: RunConfig, resources: ResourceSpec) -> None:
    """Check that any number of workers can share the batch, and has the device that the precision needs."""
    least, most = resources.workers
    multiple, counted = 1, least - 1
    while counted < most and multiple <= config.batch_size:
        counted += 1
        multiple = math.lcm(multiple, counted)
    if config.batch_size % multiple:
        each = f"{multiple} for {least} to {counted} workers" if least < most else f"--num-workers {least}"
        raise ConfigError(f"batch_size must be a multiple of {each}, but got {config.batch_size}")
    for workers in range(least, most + 1):
        share = config.batch_size // workers
        if share % config.accumulate:
            raise ConfigError(
                f"accumulate must divide each worker's share of the batch, {share} with --num-workers {workers}, "
                f"but got {config.accumulate}"
            )
    if config.precision == "fp16" and not resources.use_gpu:
        raise ConfigError("precision fp16 needs a GPU: add --use-gpu, or use bf16 or fp32")
    if config.parallel == "fsdp" and most == 1:
        raise ConfigError("parallel fsdp shards a model over several workers, but --num-workers is 1")
