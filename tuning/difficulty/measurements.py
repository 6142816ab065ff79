"""Measure the difficulty of a data set's noise levels, and write the curves to disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import Field, model_validator

from curriculum_ray.buckets.address import is_address
from curriculum_ray.config import ConfigError, Spec, load_json
from curriculum_ray.curriculum import DifficultyCurve
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.curriculum.difficulty import (
    Mixture,
    gaussian_curve,
    gaussian_relative_entropy,
    level_scales,
    principal_moments,
    relative_entropy,
    relative_entropy_curve,
    snr_curve,
)
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.data.stream import load_stream
from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.distributed.connection import connected
from curriculum_ray.distributed.difficulty import ProbeTask, run_probes
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.own_files import FORCE_OPTION, check_own, write_own
from curriculum_ray.training.difficulty import ProbeSpec, convergence_curve, gradient_curve, loss_curve
from curriculum_ray.training.prediction import with_prediction
from tuning.difficulty.page import check_report

__all__ = ["MEASURES", "DifficultyConfig", "Measure", "measure"]

Measure = Literal["relative_entropy", "gaussian", "snr", "convergence", "convergence-paper", "gradient"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
_TRAINED = frozenset({"convergence", "convergence-paper", "gradient"})
_READ_BY: Mapping[str, frozenset[str]] = {
    "samples": frozenset({"relative_entropy"}),
    "seed": _TRAINED | {"relative_entropy"},
    **dict.fromkeys(
        ("seeds", "use_gpu", "probe.process.prediction", "probe.model", "probe.optimizer"), _TRAINED
    ),
    **dict.fromkeys(("probe.intervals", "probe.steps", "probe.batch_size", "probe.watched"), _TRAINED),
    **dict.fromkeys(
        ("probe.gradient_batches", "probe.gradient_batch_size", "probe.gradient_points"),
        frozenset({"gradient"}),
    ),
}
"""The measurements that read a setting, by its key; all others are read by each."""
# In the meta of a curve: where its data lie, and how many items of a stream were measured.
_PATH, _ITEMS = "path", "items"
_OF_A_STREAM = 4_096
"""Items of a stream that are measured, read once into memory."""


class DifficultyConfig(Spec):
    """Settings of the measurements."""

    measure: tuple[Measure, ...] = Field(
        default=("relative_entropy", "gaussian", "convergence", "gradient"), min_length=1
    )
    """The measurements to make."""
    probe: ProbeSpec = ProbeSpec()
    """The images, the process, and the probe models."""
    samples: int = Field(default=2048, ge=16, le=100_000_000)
    """Monte Carlo samples of relative entropy at each timestep."""
    seeds: int = Field(default=2, ge=1, le=100)
    """Probe models of each kind, with consecutive seeds."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The first seed."""
    use_gpu: bool = False
    """Train each probe model on a GPU."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> DifficultyConfig:
        for key, readers in _READ_BY.items():
            if readers.isdisjoint(self.measure) and self._chosen(key):
                raise ValueError(
                    f"{key} is read by {', '.join(sorted(readers))} alone, but measure is {', '.join(self.measure)}"
                )
        if not _TRAINED.isdisjoint(self.measure):
            try:
                self.probe.check_intervals()
            except ConfigError as error:
                raise ValueError(f"probe.{error}") from None
        return self

    def _chosen(self, key: str) -> bool:
        """Whether the setting at a dotted key is another than by default."""
        process = self.probe.process
        if key == "probe.process.prediction":
            if not isinstance(process, DDPMSpec) or process.zero_terminal_snr:
                # A zero terminal SNR does not go with every prediction.
                return False
            usual = DDPMSpec.model_validate(with_prediction({}, self.probe.data))
            return process.prediction != usual.prediction
        *groups, name = key.split(".")
        spec: Spec = self
        for group in groups:
            spec = getattr(spec, group)
        return bool(getattr(spec, name) != type(spec).model_fields[name].default)


def measure(
    config: DifficultyConfig,
    folder: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    force: bool = False,
) -> dict[str, DifficultyCurve]:
    """Measure, and write each curve to `folder`/<name>.json as soon as it is complete.

    Names are those of `Measure`; convergence includes loss. `report` is called with lines of progress.
    Raises ConfigError where a requested measurement does not apply. Of a stream, 4,096 items that are trained on are
    measured, evenly from many of its shards, or as many as fit into a GiB.
    """
    process = build_process(config.probe.process)
    try:
        level_of(config.probe.distribution, torch.zeros(1), process.levels)
    except ValueError as error:
        raise ConfigError(f"probe.base: {error}") from None
    streamed = config.probe.data.streamed
    data = _some(config, report) if streamed else load_data(config.probe.data)
    curves: dict[str, DifficultyCurve] = {}

    check_report(folder, force=force)
    path = _place(config.probe.data.name)
    for name in (*config.measure, *(["loss"] if "convergence" in config.measure else [])):
        file = folder / f"{name}.json"
        check_own(file, force=force)
        if not force:
            _check_same_data(file, path)

    def keep(name: str, curve: DifficultyCurve) -> None:
        extra: dict[str, Any] = {} if path is None else {_PATH: path}
        extra |= {_ITEMS: len(data)} if streamed else {}
        curve = curve.model_copy(update={"meta": {**curve.meta, **extra}})
        curves[name] = curve
        content = json.dumps(curve.to_plain())
        if (kept := write_own(folder / f"{name}.json", content, force=force)) is not None:
            report(f"an earlier file was kept as {kept}")

    _closed_forms(config, data, process, keep, report)
    tasks = _probe_tasks(config)
    if tasks:
        _probes(config, tasks, data, process.name, keep, report)
    return curves


def _some(config: DifficultyConfig, report: Callable[[str], None]) -> Dataset:
    """The items of a stream that are measured."""
    info = load_stream(config.probe.data, _OF_A_STREAM).info
    assert info.reference is not None
    report(f"measured on {len(info.reference):,} of {info.count:,} items of the stream {info.name}")
    return info.reference


def _place(name: str) -> str | None:
    """Where data lie; None for an embedded set."""
    if name in EMBEDDED:
        return None
    return name if is_address(name) else os.path.abspath(name)


def _check_same_data(file: Path, path: str | None) -> None:
    """Raise ConfigError if `file` is a curve of data of the same name that lie elsewhere than `path`: see `_place`."""
    if not file.is_file():
        return
    before = load_json(file)["meta"].get(_PATH)
    if before != path:
        old, new = (
            "an embedded set" if place is None else f"the data in {place}" for place in (before, path)
        )
        raise ConfigError(
            f"{file} is of {old}, not of {new}: choose another --output, or add {FORCE_OPTION}, which writes over it"
        )


def _closed_forms(
    config: DifficultyConfig,
    data: Dataset,
    process: Process,
    keep: Callable[[str, DifficultyCurve], None],
    report: Callable[[str], None],
) -> None:
    """Measurements that need no model."""
    wanted = {"snr", "gaussian", "relative_entropy"} & set(config.measure)
    if not wanted:
        return
    signal, noise_std, base = level_scales(process.levels, config.probe.distribution)
    about: dict[str, Any] = {"data": data.name, "process": process.name, "base": base}
    if "relative_entropy" in wanted:
        start = time.perf_counter()
        measured = relative_entropy(
            Mixture.of(data.items), signal, noise_std, num_samples=config.samples, seed=config.seed
        )
        keep(
            "relative_entropy",
            relative_entropy_curve(measured, len(signal), meta={"seed": config.seed}, **about),
        )
        report(
            f"relative entropy at {len(measured.timesteps)} of {len(signal):,} levels, {config.samples:,} samples "
            f"each: {time.perf_counter() - start:.1f} s"
        )
    if "gaussian" in wanted:
        moments = principal_moments(data.items)
        keep("gaussian", gaussian_curve(gaussian_relative_entropy(*moments, signal, noise_std), **about))
    if "snr" in wanted:
        keep("snr", snr_curve(signal, noise_std, **about))


def _probe_tasks(config: DifficultyConfig) -> list[ProbeTask]:
    seeds = range(config.seed, config.seed + config.seeds)
    tasks = []
    if {"convergence", "gradient"} & set(config.measure):
        tasks += [ProbeTask(seed, gradients="gradient" in config.measure) for seed in seeds]
    if "convergence-paper" in config.measure:
        tasks += [ProbeTask(seed, interval) for seed in seeds for interval in range(config.probe.intervals)]
    return tasks


def _probes(
    config: DifficultyConfig,
    tasks: list[ProbeTask],
    items: Dataset,
    process: str,
    keep: Callable[[str, DifficultyCurve], None],
    report: Callable[[str], None],
) -> None:
    """Measurements on trained models, all of them tasks of one Ray."""
    spec, data = config.probe, items.name
    start = time.perf_counter()

    def on_done(done: int) -> None:
        report(f"probe models: {done} of {len(tasks)} trained, {time.perf_counter() - start:.0f} s")

    with connected(1, ResourceSpec(use_gpu=config.use_gpu)):
        report(f"training {len(tasks)} probe models of {spec.steps:,} steps")
        given = items if spec.data.streamed else None
        runs = run_probes(spec, tasks, items=given, use_gpu=config.use_gpu, on_done=on_done)
    shared = [run for run in runs if run.interval is None]
    apart = [run for run in runs if run.interval is not None]
    if "convergence" in config.measure:
        keep("convergence", convergence_curve(spec, shared, data=data, process=process))
        keep("loss", loss_curve(spec, shared, data=data, process=process))
    if "convergence-paper" in config.measure:
        keep("convergence-paper", convergence_curve(spec, apart, data=data, process=process))
    if "gradient" in config.measure:
        keep("gradient", gradient_curve(spec, shared, data=data, process=process))
