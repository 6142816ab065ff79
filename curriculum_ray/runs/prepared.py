"""Data sets and evaluations that the runs of one process share, loaded once."""

from __future__ import annotations

import functools

from curriculum_ray.data import DataInfo, Dataset, DataSpec, data_info, load_data
from curriculum_ray.data.summary import quiet
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation import Evaluator, prepare
from curriculum_ray.runs.config import RunConfig

__all__ = ["cached_data", "cached_evaluator", "cached_preview_evaluator", "items_of"]


@functools.lru_cache(maxsize=4)
def _data(spec: str) -> Dataset:
    # The driver has already shown the warnings about the data.
    with quiet():
        return load_data(DataSpec.model_validate_json(spec))


def cached_data(spec: DataSpec) -> Dataset:
    """Load a data set, once per process."""
    return _data(spec.model_dump_json())


def items_of(spec: DataSpec) -> Dataset | DataInfo:
    """The data set, loaded once per process, or of a stream its metadata."""
    if not spec.streamed:
        return cached_data(spec)
    with quiet():
        return data_info(spec)


@functools.lru_cache(maxsize=4)
def _evaluator(config: str) -> Evaluator | None:
    settings = RunConfig.model_validate_json(config)
    if settings.evaluation is None:
        return None
    process = build_process(settings.process)
    return prepare(settings.evaluation, items_of(settings.data), process, settings.data)


def cached_evaluator(config: RunConfig) -> Evaluator | None:
    """Prepare a run's evaluation (weights, reference features), once per process."""
    alike = RunConfig(data=config.data, process=config.process, evaluation=config.evaluation)
    return _evaluator(alike.model_dump_json())


def cached_preview_evaluator(config: RunConfig) -> Evaluator | None:
    """The evaluation of a run with a preview's samples, at its first scale of guidance; None without a score."""
    preview = config.preview
    if preview is None or not preview.metric or config.evaluation is None:
        return None
    spec = config.evaluation.at_first_scale().model_copy(update={"num_samples": preview.num_samples})
    return cached_evaluator(config.model_copy(update={"evaluation": spec}))
