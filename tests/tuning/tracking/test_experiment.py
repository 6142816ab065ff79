"""The experiment: made once by processes that begin at once, and one line where the store refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.tracking.clients import Watched
from tuning.tracking import Store, open_store
from tuning.tracking.experiment import experiment_id

NAME = "digits/ddpm"


def refused(code: str) -> Exception:
    from mlflow.exceptions import RestException

    return RestException({"error_code": code, "message": "not for\nadmin at http://me:hunter22@far:5000"})


def watched(output: Path, before: Any) -> Store:
    """The store in `output`; `before` gets the name of each call to it."""
    store = open_store(None, output, create=False)
    return replace(store, client=Watched(store.client, before))  # type: ignore[arg-type]


def test_the_second_of_two_processes_takes_the_experiment_of_the_first(output: Path) -> None:
    made: list[str] = []

    def first(name: str) -> None:
        if name == "create_experiment" and not made:
            made.append(experiment_id(open_store(None, output, create=False), NAME))

    assert experiment_id(watched(output, first), NAME) == made[0]


@pytest.mark.parametrize("asked", ["get_experiment_by_name", "create_experiment"])
@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "RESOURCE_ALREADY_EXISTS"])
def test_a_refusal_is_one_line_without_secrets(output: Path, asked: str, code: str) -> None:
    def refuse(name: str) -> None:
        if name == asked:
            raise refused(code)

    with pytest.raises(ConfigError, match=f"experiment 'digits/ddpm' of .* cannot be used: {code}") as error:
        experiment_id(watched(output, refuse), NAME)
    assert "\n" not in str(error.value)
    assert "hunter22" not in str(error.value)
