"""Registers a study's answer: MLflow's model registry holds the winning schedule, as files without pickles."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.tracking.fields import TAG_PREFIX
from tuning.tracking.store import Store

__all__ = ["model_name", "own_model", "register"]


def model_name(study: str) -> str:
    """The study's name as the registry accepts it: without slashes, colons and the like."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in study)


def own_model(store: Store, study: str, ident: str) -> str:
    """The model of the study with this id: it has the study's name, followed by the first digits of the id if another
    study has taken that name."""
    from mlflow.exceptions import MlflowException

    name, mark = model_name(study), TAG_PREFIX + "id"
    try:
        store.client.create_registered_model(name, tags={mark: ident})
        return name
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = store.client.get_registered_model(name)
    return name if found.tags.get(mark) == ident else f"{name}-{ident[:8]}"


def register(
    store: Store, name: str, run_id: str, alias: str, description: str, tags: Mapping[str, str]
) -> str:
    """Point `models:/name@alias` at the artifacts of a run (schedule.yaml, config.yaml, samples); returns that address.

    An equal version is kept. MLflow's own errors pass through.
    """
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    wanted = {TAG_PREFIX + key: value for key, value in tags.items()}
    versions = client.search_model_versions(f"name = '{name}'")
    alike = (
        found
        for found in versions
        if found.run_id == run_id
        and found.description == description
        and wanted.items() <= found.tags.items()
    )
    version = next(alike, None) or client.create_model_version(
        name, source=f"runs:/{run_id}", run_id=run_id, tags=wanted, description=description
    )
    client.set_registered_model_alias(name, alias, version.version)
    return f"models:/{name}@{alias}"
