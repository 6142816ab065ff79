"""Where the settings of a cluster's autoscaler are found, and what is said where they cannot be read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml

from curriculum_ray.distributed import growth
from tests.distributed.nodes import ROOT


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of settings that the monitor of a head at port 6379 was started with."""
    path = tmp_path / "settings.yaml"
    titles = [
        ["bash"],
        ["python", "monitor.py", "--gcs-address=10.0.0.1:1", "--autoscaling-config=/other.yaml"],
        ["python", "monitor.py", "--gcs-address=10.0.0.1:6379", f"--autoscaling-config={path}"],
    ]
    there = [SimpleNamespace(info={"cmdline": title}) for title in titles]
    monkeypatch.setattr("psutil.process_iter", lambda _: iter(there))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    return path


def test_the_settings_are_those_that_this_head_was_started_with(monitor: Path) -> None:
    monitor.write_text("max_workers: 3")
    assert growth._autoscaler(6379).settings == {"max_workers": 3}


def test_settings_that_cannot_be_read_are_unknown(monitor: Path) -> None:
    found = growth._autoscaler(6379)
    assert (found.kind, found.reason) == ("unknown", f"{monitor} cannot be read: FileNotFoundError")


def test_a_head_without_an_autoscaler_does_not_grow(monitor: Path) -> None:
    assert growth._autoscaler(7777).kind == "none"


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A head's pod in Kubernetes, whose answers are in the mapping."""
    answers: dict[str, Any] = {}
    namespace = tmp_path / "namespace"
    namespace.write_text("lab\n")

    def get(self: Any, path: str) -> Any:
        if path not in answers:
            raise requests.HTTPError("403")
        return answers[path]

    monkeypatch.setattr("psutil.process_iter", lambda _: iter(()))
    monkeypatch.setenv("RAY_CLUSTER_NAME", "curriculum-ray")
    monkeypatch.setattr(growth, "_NAMESPACE_FILE", namespace)
    monkeypatch.setattr("ray.autoscaler._private.kuberay.node_provider.KubernetesHttpApiClient.get", get)
    return answers


def _resource(**changes: Any) -> dict[str, Any]:
    manifest = yaml.safe_load((ROOT / "clusters" / "kuberay" / "raycluster.yaml").read_text())
    return {
        "metadata": {"name": "curriculum-ray", "namespace": "lab"},
        "spec": {**manifest["spec"], **changes},
    }


def test_on_kubernetes_the_settings_are_those_of_the_cluster_itself(pod: dict[str, Any]) -> None:
    pod["rayclusters/curriculum-ray"] = _resource()
    settings = growth._autoscaler(6379).settings
    assert settings is not None
    most = growth.as_capacity(settings)
    assert most is not None
    assert most.amount("GPU") == 8
    pod["rayclusters/curriculum-ray"] = _resource(enableInTreeAutoscaling=False)
    assert growth._autoscaler(6379).kind == "none"


def test_a_pod_that_may_not_read_its_cluster_does_not_know(pod: dict[str, Any]) -> None:
    found = growth._autoscaler(6379)
    assert (found.kind, found.reason) == ("unknown", "Kubernetes does not tell: HTTPError")
