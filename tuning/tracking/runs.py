"""Carries out queued writes by calls of MLflow's client; a write that was stored before is not repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.tracking.experiment import experiment_id
from tuning.tracking.fields import quoted, tag, tag_values
from tuning.tracking.points import StoredSteps, is_point
from tuning.tracking.store import Store
from tuning.tracking.writer import Away, Refused, Write

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Mlflow", "missing_files"]

# Codes of mlflow.protos.databricks_pb2.ErrorCode that make a retry pointless.
_FINAL_ERRORS = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_STATE",
}
# What writes raise that were damaged in the file.
_DAMAGES = (AttributeError, LookupError, TypeError, ValueError)
# MLflow's limits of one log_batch.
_METRICS_PER_BATCH, _PARAMS_PER_BATCH = 1000, 100
_LONGEST_REASON = 300
_SEPARATOR = ", "


class Mlflow:
    """One experiment's runs in the store, by handle."""

    def __init__(self, store: Store, experiment: str) -> None:
        self.store = store
        self.experiment = experiment
        self._experiment_id = experiment_id(store, experiment)
        self._runs: dict[str, str] = {}  # handle -> MLflow's run id
        self._found: dict[str, Run] = {}  # run key -> run of an earlier start of the same study
        self._steps: dict[str, StoredSteps] = {}  # handle -> steps that have a value
        self._missing: dict[str, set[str]] = {}  # handle -> files that could not be stored
        self._asked_for: set[str] = set()  # handles whose run MLflow was asked to create
        self._replaying = False
        self._kept_in: Path | None = None  # the folder of the queue, where its relative paths begin

    def _apply(self, write: Write) -> None:
        """Store a write. Raises `Refused`, `Away`, or, where the store answers but this write fails, RuntimeError."""
        actions: dict[str, Callable[[str, Any], None]] = {
            "begin": self._begin,
            "log": self._log,
            "set_tags": self._set_tags,
            "store_files": self._store_files,
            "log_dataset": self._log_dataset,
            "log_model": self._log_model,
            "end": self._end,
        }
        try:
            actions[write.kind](write.run, write.data)
        except Refused:
            raise
        except Exception as error:  # its text may hold the address
            reason = self.store.redacted(_reason(error))[:_LONGEST_REASON]
            if self._is_final(error):
                raise Refused(f"MLflow refused a write ({write.kind}): {reason}") from None
            if away := self.store.unreachable():
                raise Away(away) from None
            raise RuntimeError(reason) from None

    def _is_final(self, error: Exception) -> bool:
        """Whether the write will fail so for ever."""
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException):
            return error.error_code in _FINAL_ERRORS
        return self._replaying and isinstance(error, _DAMAGES) and not isinstance(error, OSError)

    def _begin(self, handle: str, data: tuple[str, dict[str, str], dict[str, str]]) -> None:
        name, params, tags = data
        client = self.store.client
        run = self._found.get(handle)
        if run is None and (self._replaying or handle in self._asked_for):
            run = self._stored_run(handle)
        if run is None:
            self._asked_for.add(handle)
            run = client.create_run(self._experiment_id, run_name=name, tags=tags)
            self._found[handle] = run
        if handle not in self._runs:
            if run.info.status in ("FAILED", "KILLED"):
                client.update_run(run.info.run_id, status="RUNNING")
            self._know(handle, run)
        self._set_tags(handle, {key: value for key, value in tags.items() if run.data.tags.get(key) != value})
        self._set_params(handle, {key: value for key, value in params.items() if key not in run.data.params})

    def _stored_run(self, handle: str) -> Run | None:
        """The run that an earlier process, or an earlier try, opened under this handle."""
        query = f"tags.`{tag('key')}` = {quoted(handle)}"
        found = self.store.search_runs([self._experiment_id], query, limit=1)
        return found[0] if found else None

    def _know(self, handle: str, run: Run) -> None:
        self._runs[handle] = run.info.run_id
        self._steps[handle] = StoredSteps(self.store.client, run)
        self._missing[handle] = missing_files(run)

    def _steps_of(self, handle: str) -> StoredSteps:
        if handle not in self._steps:
            client = self.store.client
            self._steps[handle] = StoredSteps(client, client.get_run(self._id(handle)))
        return self._steps[handle]

    def _set_params(self, handle: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(entities), _PARAMS_PER_BATCH):
            self.store.client.log_batch(self._id(handle), params=entities[start : start + _PARAMS_PER_BATCH])

    def _set_tags(self, handle: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self.store.client.log_batch(
                self._id(handle), tags=[RunTag(key, value) for key, value in tags.items()]
            )

    def _log(self, handle: str, points: list[Any]) -> None:
        run, steps = self._id(handle), self._steps_of(handle)
        sound = [point for point in points if is_point(point)]
        metrics = steps.fresh(sound)
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            batch = metrics[start : start + _METRICS_PER_BATCH]
            self.store.client.log_batch(run, metrics=batch)
            steps.add(batch)
        if len(sound) < len(points):
            raise Refused(f"{len(points) - len(sound)} damaged metrics were left out")

    def _store_files(self, handle: str, data: tuple[list[str], str | None]) -> None:
        files, folder = data
        run, before = self._id(handle), self._missing.get(handle, set())
        missing, reasons = set(before), []
        for file in files:
            name = Path(file).name if folder is None else f"{folder}/{Path(file).name}"
            try:
                path = self._located(file)
            except Refused as refusal:
                missing.add(name)
                reasons.append(str(refusal))
            else:
                self.store.client.log_artifact(run, str(path), folder)
                missing.discard(name)
        if missing != before:
            self._set_tags(handle, tag_values({"missing": _SEPARATOR.join(sorted(missing))}))
            self._missing[handle] = missing
        if reasons:
            raise Refused("; ".join(reasons))

    def _located(self, file: str) -> Path:
        """Where a queued file is now; `Refused` where it is not, or not to be stored."""
        path = Path(file)
        if self._kept_in is not None and (inside := self._kept_in / path).is_file():
            path = inside
        if not path.is_file():
            raise Refused(f"{file} was gone before MLflow could store it")
        outside = self._kept_in is not None and not path.resolve().is_relative_to(self._kept_in)
        if self._replaying and outside:
            # A folder from elsewhere must not publish this user's files.
            raise Refused(f"{file} was not stored in MLflow: it lies outside {self._kept_in}")
        return path

    def _log_model(self, handle: str, data: tuple[str, list[str], dict[str, str], dict[str, str]]) -> None:
        name, files, params, tags = data
        run, client = self._id(handle), self.store.client
        query = f"name = {quoted(name)} AND source_run_id = '{run}'"
        known = client.search_logged_models([self._experiment_id], filter_string=query)
        model = next(iter(known), None)
        if model is None:
            model = client.create_logged_model(
                self._experiment_id, name, source_run_id=run, tags=tags, params=params, model_type="diffusion"
            )
        elif tags != {key: model.tags.get(key) for key in tags}:
            client.set_logged_model_tags(model.model_id, tags)
        if model.status == "READY":
            return
        for file in files:
            client.log_model_artifact(model.model_id, str(self._located(file)))
        client.finalize_logged_model(model.model_id, "READY")

    def _log_dataset(self, handle: str, data: tuple[str, str, list[str], dict[str, Any]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, fingerprint, (kind, source), profile = data
        # MLflow takes digests of 36 characters.
        entity = Dataset(name, fingerprint[:36], kind, source, profile=json.dumps(profile))
        use = InputTag("mlflow.data.context", "training")
        self.store.client.log_inputs(self._id(handle), datasets=[DatasetInput(entity, [use])])

    def _end(self, handle: str, data: tuple[str, int, int | None, dict[str, str]]) -> None:
        from mlflow.entities import RunTag

        status, now, images, tags = data
        run, steps = self._id(handle), self._steps_of(handle)
        # A metric besides the tag: `best` orders equal scores by it.
        metrics = [] if images is None else steps.fresh([("images", float(images), now, images)])
        entities = [RunTag(key, value) for key, value in tags.items()]
        if metrics or entities:
            self.store.client.log_batch(run, metrics=metrics, tags=entities)
            steps.add(metrics)
        self.store.client.set_terminated(run, status, now)
        if status == "FINISHED":
            self._steps.pop(handle, None)

    def _id(self, handle: str) -> str:
        if handle not in self._runs and self._replaying:
            run = self._stored_run(handle)
            if run is not None:
                self._know(handle, run)
        if handle not in self._runs and (found := self._found.get(handle)) is not None:
            return found.info.run_id
        if handle not in self._runs:
            raise Refused("a write to a run that MLflow refused to create was dropped")
        return self._runs[handle]


def missing_files(run: Run) -> set[str]:
    """The names of the run's files that could not be stored."""
    return set(filter(None, run.data.tags.get(tag("missing"), "").split(_SEPARATOR)))


def _reason(error: Exception) -> str:
    """Why a write failed."""
    answered = re.search(r"too many (\d+) error responses", str(error))
    if answered:
        return f"the server answers HTTP {answered[1]}, and its log says why"
    return f"{type(error).__name__}: {error}"
