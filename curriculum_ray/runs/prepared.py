"""Data sets and evaluations that the runs of one process share, loaded once."""

from __future__ import annotations

import functools

from curriculum_ray.data import DataInfo, Dataset, DataSpec, load_data
from curriculum_ray.data.shards import Scan
from curriculum_ray.data.stream import load_stream
from curriculum_ray.data.summary import quiet
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation import EvaluationSpec, Evaluator, prepare
from curriculum_ray.runs.config import RunConfig

__all__ = [
    "adopt_stream",
    "cached_data",
    "cached_evaluator",
    "cached_preview_evaluator",
    "cached_stream",
    "items_of",
    "stream_key",
]

_streams: dict[tuple[str, int], Scan] = {}
"""By data set and size of the reference, only the last one: its items may take more than a gigabyte."""


@functools.lru_cache(maxsize=4)
def _data(spec: str) -> Dataset:
    # The driver has already shown the warnings about the data.
    with quiet():
        return load_data(DataSpec.model_validate_json(spec))


def cached_data(spec: DataSpec) -> Dataset:
    """Load a data set, once per process."""
    return _data(spec.model_dump_json())


def cached_stream(data: DataSpec, evaluation: EvaluationSpec | None) -> Scan:
    """The stream `data` with its items that are kept in memory, read once per process if it was not adopted."""
    key = stream_key(data, evaluation)
    if key not in _streams:
        with quiet():
            adopt_stream(key, load_stream(data, key[1]))
    return _streams[key]


def adopt_stream(key: tuple[str, int], stream: Scan) -> None:
    """Take what `cached_stream` returned, maybe in another process, for a run of this `stream_key`."""
    _streams.clear()
    _streams[key] = stream


def stream_key(data: DataSpec, evaluation: EvaluationSpec | None) -> tuple[str, int]:
    """What a stream is known by: its data set, as JSON, and how many of its items samples are scored against."""
    return data.model_dump_json(), 0 if evaluation is None else evaluation.num_samples


def items_of(data: DataSpec, evaluation: EvaluationSpec | None) -> Dataset | DataInfo:
    """The data set, loaded once per process; of a stream its metadata, and the items that are kept in memory."""
    return cached_stream(data, evaluation).info if data.streamed else cached_data(data)


@functools.lru_cache(maxsize=4)
def _evaluator(config: str, previewed: int | None) -> Evaluator | None:
    """previewed: the samples of a preview, whose reference is that of the evaluation."""
    settings = RunConfig.model_validate_json(config)
    if settings.evaluation is None:
        return None
    items = items_of(settings.data, settings.evaluation)
    spec = settings.evaluation
    if previewed is not None:
        spec = spec.at_first_scale().model_copy(update={"num_samples": previewed})
    return prepare(spec, items, build_process(settings.process), settings.data)


def cached_evaluator(config: RunConfig) -> Evaluator | None:
    """Prepare a run's evaluation (weights, reference features), once per process."""
    return _evaluator(_alike(config), None)


def cached_preview_evaluator(config: RunConfig) -> Evaluator | None:
    """The evaluation of a run with a preview's samples, at its first scale of guidance; None without a score."""
    preview = config.preview
    if preview is None or not preview.metric:
        return None
    return _evaluator(_alike(config), preview.num_samples)


def _alike(config: RunConfig) -> str:
    """What an evaluation depends on, as JSON."""
    alike = RunConfig(data=config.data, process=config.process, evaluation=config.evaluation)
    return alike.model_dump_json()
