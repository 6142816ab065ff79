"""The finished trials that MLflow knows of, as the records that a study ranks: all measured by one protocol."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.buckets.address import is_address
from curriculum_ray.buckets.address import names as address_names
from curriculum_ray.config import ConfigError, load_yaml
from curriculum_ray.config.shown import shown
from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.shell import tune_command
from curriculum_ray.words import number_of
from tuning.evidence.metrics import MARGIN, direction, is_metric
from tuning.evidence.records import Status, TrialRecord
from tuning.tracking.fields import TAG_PREFIX, quoted, tag
from tuning.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "FinishedTrial",
    "artifact_text",
    "failed_confirmations",
    "finished_trials",
    "protocols",
    "schedule_file",
    "study_rule",
]


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial in MLflow."""

    record: TrialRecord
    run_id: str
    experiment: str
    """Its name."""
    parent: str
    """The run of its study."""
    study: str
    data: str
    process: str
    settings: dict[str, str]
    """Settings of its run by dotted key, as texts; empty where they are not known."""


def finished_trials(
    store: Store,
    metric: str,
    *,
    experiment: str | None = None,
    data: str | None = None,
    process: str | None = None,
    study: str | None = None,
    fingerprint: str | None = None,
) -> list[FinishedTrial]:
    """Return the finished trials that the filters leave, the best by `metric` first, equal ones by images seen.

    data: the name of a data set, or the path or address of a folder, by whose name studies are tagged. Raises
    `ConfigError` when there is none, and when they were measured by more than one protocol (`fingerprint`, or its
    start, picks one).
    """
    upward = direction(metric) == "max"
    names = _experiments(store, experiment)
    filters = {"process": process, "study": study}
    conditions = [f"tags.`{tag('kind')}` = 'trial'"]
    conditions += [
        f"tags.`{tag(key)}` = {_quoted(key, value)}" for key, value in filters.items() if value is not None
    ]
    order = [f"metrics.`{metric}` {'DESC' if upward else 'ASC'}", "metrics.images ASC"]
    if data is not None:
        runs = _of_data(store, list(names), conditions, order, data)
    else:
        runs = store.search_runs(list(names), " and ".join(conditions), order)
    finished = [run for run in runs if run.info.status == "FINISHED" and metric in run.data.metrics]
    if not finished:
        raise ConfigError(_nothing_finished(runs, metric, store))
    chosen = _one_fingerprint(finished, fingerprint)
    return [_trial(place, run, store, names[run.info.experiment_id]) for place, run in enumerate(chosen)]


def protocols(store: Store, study: str) -> set[str]:
    """The fingerprints of all finished trials of studies of this name."""
    query = f"tags.`{tag('kind')}` = 'trial' AND tags.`{tag('study')}` = {quoted(study)}"
    runs = store.search_runs(list(_experiments(store, None)), query)
    return {run.data.tags.get(tag("fingerprint"), "") for run in runs if run.info.status == "FINISHED"}


def study_rule(store: Store, run_id: str) -> tuple[float, str | None]:
    """The margin within which the study of this run counts arms as equal, and the metric that its answer is about.

    The second is None where it is not recorded.
    """
    data = store.client.get_run(run_id).data
    return float(data.tags.get(tag("margin"), MARGIN)), data.params.get("metric")


def failed_confirmations(store: Store, parent: str) -> list[TrialRecord]:
    """The runs on fresh seeds that failed in the study of the run `parent`."""
    query = f"tags.`mlflow.parentRunId` = '{parent}' AND tags.`{tag('role')}` = 'confirmation'"
    runs = store.search_runs(list(_experiments(store, None)), query)
    failed = [run for run in runs if run.info.status == "FAILED"]
    return [_record(place, run, store, "failed") for place, run in enumerate(failed)]


def schedule_file(store: Store, run_id: str) -> tuple[str, dict[str, Any]]:
    """Fetch the run's schedule.yaml: its text and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(store.client.download_artifacts(run_id, SCHEDULE_FILE, folder))
        except Exception:  # each artifact store fails in its own way
            reason = f"the run {run_id} in {store.shown} has no readable artifact {SCHEDULE_FILE}"
            raise ConfigError(reason) from None
        return path.read_text(encoding="utf-8"), load_yaml(path)


def artifact_text(store: Store, run_id: str, name: str) -> str | None:
    """The text of the run's artifact, None where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")
        except Exception:  # each artifact store fails in its own way
            return None


def _experiments(store: Store, name: str | None) -> dict[str, str]:
    """Return names by id of all experiments, or of the one asked for."""
    names = {found.experiment_id: found.name for found in store.client.search_experiments()}
    if name is None:
        return names
    chosen = {key: value for key, value in names.items() if value == name}
    if not chosen:
        known = ", ".join(sorted(value for value in names.values() if value != "Default")) or "none"
        raise ConfigError(f"there is no experiment {name!r} in {store.shown}: there is {known}")
    return chosen


def _of_data(
    store: Store, experiments: list[str], conditions: list[str], order: list[str], data: str
) -> list[Run]:
    """The trials that meet the conditions, of the first name of `data` that has any."""
    for name in _names_of(data):
        of_name = [*conditions, f"tags.`{tag('data')}` = {_quoted('data', name)}"]
        if runs := store.search_runs(experiments, " and ".join(of_name), order):
            return runs
    others = {
        run.data.tags.get(tag("data"), "") for run in store.search_runs(experiments, " and ".join(conditions))
    }
    if others:
        there = ", ".join(sorted(others))
        raise ConfigError(f"there is no trial of the data {shown(data)} in {store.shown}: there is {there}")
    return []


def _names_of(data: str) -> list[str]:
    """The names that studies of these data may have: that given, and those of the folder, or of shards, there."""
    if is_address(data):
        place = Path(address_names(data)[-1])
    elif "/" in data or Path(data).is_dir():
        place = Path(data).resolve()
    else:
        return [data]
    return list(dict.fromkeys(name for name in (data, place.name, place.stem) if name))


def _quoted(key: str, value: str) -> str:
    if "'" in value and '"' in value:
        raise ConfigError(f"--{key} must not hold both kinds of quotes, but got {value!r}")
    return quoted(value)


def _nothing_finished(runs: list[Run], metric: str, store: Store) -> str:
    if not runs:
        return f"there is no trial in {store.shown} that fits: run `{tune_command('search')}` first"
    states = Counter(run.info.status.lower() for run in runs)
    listed = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"there is no finished trial with the metric {metric} in {store.shown} that fits ({listed})"


def _one_fingerprint(runs: list[Run], wanted: str | None) -> list[Run]:
    numbers = Counter(run.data.tags.get(tag("fingerprint"), "") for run in runs)
    listed = ", ".join(
        f"{key or 'none'} ({number_of(number, 'trial')})" for key, number in numbers.most_common()
    )
    if wanted is not None:
        chosen = [key for key in numbers if key.startswith(wanted)] if wanted else []
        if len(chosen) != 1:
            raise ConfigError(f"--fingerprint must name one protocol, but got {wanted!r}: there are {listed}")
        return [run for run in runs if run.data.tags.get(tag("fingerprint"), "") == chosen[0]]
    if len(numbers) > 1:
        raise ConfigError(
            f"the finished trials were measured by different protocols and cannot be compared: {listed}; "
            f"pick one with --fingerprint"
        )
    return runs


def _trial(place: int, run: Run, store: Store, experiment: str) -> FinishedTrial:
    """A finished run; ConfigError for one that no study of this project wrote."""
    tags = _tags(run)
    return FinishedTrial(
        record=_record(place, run, store, "finished"),
        run_id=run.info.run_id,
        experiment=experiment,
        parent=run.data.tags.get("mlflow.parentRunId", ""),
        study=tags.get("study", ""),
        data=tags.get("data", ""),
        process=tags.get("process", ""),
        settings=dict(run.data.params),
    )


def _tags(run: Run) -> dict[str, str]:
    """The project's own tags, without their prefix."""
    return {
        key.removeprefix(TAG_PREFIX): value
        for key, value in run.data.tags.items()
        if key.startswith(TAG_PREFIX)
    }


def _record(place: int, run: Run, store: Store, status: Status) -> TrialRecord:
    """Check a run's tags and metrics; ConfigError for a run that no study of this project wrote."""
    tags = _tags(run)
    metrics = dict(run.data.metrics)
    images = int(metrics.pop("images", 0))
    schedule_id = tags.get("schedule_id", run.info.run_id)
    direction = run.data.params.get("schedule.order.direction")
    data = {
        "version": 1,
        "trial": place,
        "key": tags.get("trial"),
        "name": str(run.info.run_name),
        "role": tags.get("role", "searched"),
        "control": tags.get("control"),
        "seed": int(tags.get("seed", 0)),
        "schedule": None if direction is None else {"order": {"direction": direction}},
        "schedule_id": schedule_id,
        "arm_id": tags.get("arm_id", schedule_id),
        "arm_name": tags.get("arm"),
        "description": tags.get("schedule", run.info.run_name),
        "total_images": images,
        "images": images,
        "metrics": {key: value for key, value in metrics.items() if is_metric(key)},
        "fingerprint": tags.get("fingerprint"),
        "devices": json.loads(tags.get("devices", "[]")),
        "status": status,
    }
    return TrialRecord.from_json(data, f"the run {run.info.run_id} in {store.shown}")
