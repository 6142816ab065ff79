"""Trains a run of a bundle again, as `tune train` trains, and compares its course with the recorded one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.data.content import describe_content
from curriculum_ray.distributed.fit import fit
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.models.named_code import check_named_code
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import RESULT_FILE
from curriculum_ray.runs.heldout_file import read_heldout
from curriculum_ray.runs.jobs import Event, Progress
from curriculum_ray.runs.log import logged
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.checkpoint import recorded_digests
from curriculum_ray.training.config import CheckpointSpec
from tuning.bundle.course import CourseComparison, compared, course_of, without_metrics
from tuning.bundle.local_paths import with_given_paths
from tuning.bundle.packed_study import PackedStudy
from tuning.evidence.records import TrialRecord
from tuning.folder.identity import claim, content_of
from tuning.folder.lock import held
from tuning.study.check_run import check_run
from tuning.study.single import room_to_train
from tuning.terminal.run_display import RunDisplay

__all__ = ["Replay", "check_data", "run_of", "train_again"]

_MOST_PREVIEWS = 1_000
"""Of a run: each leaves a picture."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A run that was trained again."""

    record: TrialRecord
    """As the bundle has it."""
    comparison: CourseComparison
    result: RunResult | None
    """Its outcome here; None where it was stopped before its end."""
    resumed: bool
    """Whether a part of it, or all, had been trained before in the same folder."""
    other_protocol: str | None
    """The fingerprint by which metrics are measured here, where it is another one: they are not comparable."""


class _FarEnough(Exception):
    """Training has reached the image count at which it is to stop."""


def run_of(
    study: PackedStudy, record: TrialRecord, paths: Mapping[str, tuple[str, str]], trusted: bool
) -> RunConfig:
    """The settings of a run in a bundle, checked; ConfigError where they name code or files that the user does not.

    paths: (option, path) by dotted key, for files that a bundle does not hold. What only keeps files is left out.
    """
    source = f"{study.settings_file(record.key)} in {study.bundle.source}"
    settings = study.settings(record.key)
    check_named_code(settings, source, trusted=trusted)
    config = with_given_paths(parse(RunConfig, settings, source), paths, study.bundle.source)
    if config.preview is not None and config.total_images > _MOST_PREVIEWS * config.preview.every_images:
        raise ConfigError(f"{source} has more than {_MOST_PREVIEWS:,} previews: it is not trained again")
    bare = {
        "checkpoint": CheckpointSpec(keep=1),
        "ema": config.ema.model_copy(update={"power": None}),
    }
    return config.model_copy(update=bare)


def check_data(study: PackedStudy, config: RunConfig, data: Dataset | DataInfo) -> None:
    """Raise ConfigError, one line, where `data` are not those of the study, whatever their name."""
    here = describe_content(config.data, data)
    other = [
        f"{key} {study.data.get(key)} -> {here[key]}"
        for key in ("content", "count", "shape", "conditioning")
        if study.data.get(key) != here[key]
    ]
    if other:
        raise ConfigError(
            f"the data here are not those of {study.bundle.source}: {', '.join(other)}: say where those lie with --data"
        )


def train_again(
    study: PackedStudy,
    record: TrialRecord,
    config: RunConfig,
    resources: ResourceSpec,
    folder: Path,
    until: int | None,
    display: RunDisplay,
) -> Replay:
    """Train a run again into `folder`, or resume it there, and compare.

    until: images after which it is far enough. Raises ConfigError, and TrainingFailed where it cannot be trained.
    """
    data, evaluator = check_run(config, resources)
    check_data(study, config, data)
    params = {**config.model_dump(mode="json"), "parallel": None}
    content = content_of(params, config.data, data, evaluator)
    stopped_at: int | None = None

    def on_event(event: Event) -> None:
        nonlocal stopped_at
        display(event)
        if isinstance(event, Progress) and until is not None and until <= event.images < config.total_images:
            stopped_at = event.images
            raise _FarEnough

    with held(folder):
        claim(folder, content, "run")
        result = RunResult.read(folder / RESULT_FILE)
        resumed = bool(result or logged(folder))
        if result is None:
            with room_to_train(config, resources, folder.parent, folder, display), suppress(_FarEnough):
                result = fit(config, folder, resources, on_event)
        here = course_of(
            logged(folder),
            read_heldout(folder),
            result,
            {} if result is None else recorded_digests(Path(result.checkpoint)),
        )
    recorded = study.course(record, whole=result is not None)
    if evaluator is not None and record.metrics:  # metrics that there were not yet prove nothing
        here = without_metrics(here, set(evaluator.names) - record.metrics.keys())
    other = None
    if evaluator is not None and evaluator.fingerprint != record.fingerprint:
        other = evaluator.fingerprint
        recorded, here = (without_metrics(each, record.metrics) for each in (recorded, here))
    return Replay(
        record=record,
        comparison=compared(recorded, here, stopped_at),
        result=result,
        resumed=resumed,
        other_protocol=other,
    )
