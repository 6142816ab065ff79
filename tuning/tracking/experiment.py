"""The MLflow experiment of a data set and process."""

from __future__ import annotations

from curriculum_ray.config import ConfigError
from tuning.tracking.store import ARTIFACT_ROOT_TAG, Store

__all__ = ["experiment_id"]


def experiment_id(store: Store, name: str) -> str:
    """The experiment's id; made where it is missing, and shown by MLflow as one of training, not of language models.

    ConfigError where the store refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        try:
            return _found_or_made(store, name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # Another process has made it since.
            return _found_or_made(store, name)
    except MlflowException as error:
        raise ConfigError(
            f"the MLflow experiment {name!r} of {store.shown} cannot be used: {store.redacted(str(error))}"
        ) from None


def _found_or_made(store: Store, name: str) -> str:
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
