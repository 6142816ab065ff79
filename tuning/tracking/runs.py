"""Carries out queued writes by calls of MLflow's client; a write that was stored before is not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.config import ConfigError
from tuning.tracking.fields import quoted, tag
from tuning.tracking.store import ARTIFACT_ROOT_TAG, Store
from tuning.tracking.writer import Away, Refused, Write

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Mlflow"]

# Codes of mlflow.protos.databricks_pb2.ErrorCode that make a retry pointless.
_FINAL_ERRORS = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "PERMISSION_DENIED",
    "INVALID_STATE",
}
# MLflow's limits of one log_batch.
_METRICS_PER_BATCH, _PARAMS_PER_BATCH = 1000, 100


class Mlflow:
    """One experiment's runs in the store, by handle."""

    def __init__(self, store: Store, experiment: str) -> None:
        self.store = store
        self.experiment = experiment
        self._experiment_id = _experiment_id(store, experiment)
        self._runs: dict[str, str] = {}  # handle -> MLflow's run id
        self._found: dict[str, Run] = {}  # run key -> run of an earlier start of the same study
        self._stored: dict[str, dict[str, set[int]]] = {}  # handle -> metric -> steps that have a value
        self._replaying = False
        self._kept_in: Path | None = None  # the folder of the file from which writes are replayed

    def _apply(self, write: Write) -> None:
        import requests
        from mlflow.exceptions import MlflowException, RestException

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
        except MlflowException as error:
            reason = self.store.redacted(f"MLflow refused a write ({write.kind}): {error}")
            if error.error_code in _FINAL_ERRORS:
                raise Refused(reason) from None
            answered = self.store.artifact_root is not None or isinstance(error, RestException)
            if error.error_code == "TEMPORARILY_UNAVAILABLE" or not answered:
                raise Away(reason) from None
            raise RuntimeError(reason) from None
        except requests.ConnectionError:
            raise Away("the MLflow server does not answer") from None
        except (Refused, Away):
            raise
        except Exception as error:  # its text may hold the address
            raise RuntimeError(self.store.redacted(f"{type(error).__name__}: {error}")) from None

    def _begin(self, handle: str, data: tuple[str, dict[str, str], dict[str, str]]) -> None:
        name, params, tags = data
        client = self.store.client
        run = self._found.get(handle)
        if run is None and self._replaying:
            run = self._stored_run(handle)
        if run is None:
            run = client.create_run(self._experiment_id, run_name=name, tags=tags)
            self._found[handle] = run
        elif handle not in self._runs:
            self._remember_points(handle, run)
            if run.info.status in ("FAILED", "KILLED"):
                client.update_run(run.info.run_id, status="RUNNING")
        self._runs[handle] = run.info.run_id
        self._set_tags(handle, {key: value for key, value in tags.items() if run.data.tags.get(key) != value})
        self._set_params(handle, {key: value for key, value in params.items() if key not in run.data.params})

    def _stored_run(self, handle: str) -> Run | None:
        """The run that an earlier process opened under this handle, with its points."""
        query = f"tags.`{tag('key')}` = {quoted(handle)}"
        found = self.store.search_runs([self._experiment_id], query, limit=1)
        return found[0] if found else None

    def _remember_points(self, handle: str, run: Run) -> None:
        client = self.store.client
        self._stored[handle] = {
            key: {point.step for point in client.get_metric_history(run.info.run_id, key)}
            for key in run.data.metrics
        }

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
        from mlflow.entities import Metric

        run = self._id(handle)
        stored = self._stored.setdefault(handle, {})
        sound = [point for point in points if _is_point(point)]
        # One value for a step, the first: a run that goes on from a checkpoint, or after a preview, repeats some.
        fresh: dict[tuple[str, int], Metric] = {}
        for key, value, now, step in sound:
            if step not in stored.get(key, ()):
                fresh.setdefault((key, step), Metric(key, value, now, step))
        metrics = list(fresh.values())
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            batch = metrics[start : start + _METRICS_PER_BATCH]
            self.store.client.log_batch(run, metrics=batch)
            for metric in batch:
                stored.setdefault(metric.key, set()).add(metric.step)
        if len(sound) < len(points):
            raise Refused(f"{len(points) - len(sound)} damaged metrics were left out")

    def _store_files(self, handle: str, data: tuple[list[str], str | None]) -> None:
        files, folder = data
        for file in files:
            self._check_file(file)
            self.store.client.log_artifact(self._id(handle), file, folder)

    def _check_file(self, file: str) -> None:
        if not Path(file).is_file():
            raise Refused(f"{file} was gone before MLflow could store it")
        outside = self._kept_in is not None and not Path(file).resolve().is_relative_to(self._kept_in)
        if self._replaying and outside:
            # A folder from elsewhere must not publish this user's files.
            raise Refused(f"{file} was not stored in MLflow: it lies outside {self._kept_in}")

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
            self._check_file(file)
            client.log_model_artifact(model.model_id, file)
        client.finalize_logged_model(model.model_id, "READY")

    def _log_dataset(self, handle: str, data: tuple[str, str, list[str], dict[str, Any]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, fingerprint, (kind, source), profile = data
        # MLflow takes digests of 36 characters.
        entity = Dataset(name, fingerprint[:36], kind, source, profile=json.dumps(profile))
        use = InputTag("mlflow.data.context", "training")
        self.store.client.log_inputs(self._id(handle), datasets=[DatasetInput(entity, [use])])

    def _end(self, handle: str, data: tuple[str, int, int | None, dict[str, str]]) -> None:
        from mlflow.entities import Metric, RunTag

        status, now, images, tags = data
        # A metric besides the tag: `best` orders equal scores by it.
        metrics = [] if images is None else [Metric("images", float(images), now, images)]
        entities = [RunTag(key, value) for key, value in tags.items()]
        if metrics or entities:
            self.store.client.log_batch(self._id(handle), metrics=metrics, tags=entities)
        self.store.client.set_terminated(self._id(handle), status, now)
        if status == "FINISHED":
            self._stored.pop(handle, None)

    def _id(self, handle: str) -> str:
        if handle not in self._runs and self._replaying:
            run = self._stored_run(handle)
            if run is not None:
                self._runs[handle] = run.info.run_id
                self._remember_points(handle, run)
        if handle not in self._runs and (found := self._found.get(handle)) is not None:
            return found.info.run_id
        if handle not in self._runs:
            raise Refused("a write to a run that MLflow refused to create was dropped")
        return self._runs[handle]


def _is_point(point: Any) -> bool:
    """Whether it is a metric's name, value, time and step, as Tracker.log queues them."""
    kinds = [type(part) for part in point] if isinstance(point, list) else []
    return kinds in ([str, float, int, int], [str, int, int, int])


def _experiment_id(store: Store, name: str) -> str:
    """The experiment's id; made where it is missing, and shown by MLflow as one of training, not of language models."""
    experiment = store.client.get_experiment_by_name(name)
    if experiment is None:
        if store.artifact_root is None:
            return store.client.create_experiment(name, tags=_described(name))
        folder = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
        tags = {ARTIFACT_ROOT_TAG: store.artifact_root, **_described(name)}
        return store.client.create_experiment(name, f"{store.artifact_root}/{folder}", tags=tags)
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment {name!r} is in the bin of {store.shown}: restore it, or purge it"
        )
    for key, value in _described(name).items():
        if key not in experiment.tags:
            store.client.set_experiment_tag(experiment.experiment_id, key, value)
    return experiment.experiment_id


def _described(experiment: str) -> dict[str, str]:
    data, _, process = experiment.partition("/")
    note = (
        f"Timestep curricula on {data}, process {process}. A study is a run whose description is its answer, with its "
        "trials as children; a single training is a run of its own. Steps are images seen."
    )
    return {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": note}
