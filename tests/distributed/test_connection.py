"""Connecting to Ray: what is said where none answers, where it is busy, and where it takes two tries."""

import os
import socket

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed import connection
from curriculum_ray.distributed.connection import connected
from curriculum_ray.distributed.resources import ResourceSpec

pytestmark = pytest.mark.usefixtures("own_ray")


def test_a_ray_that_does_not_come_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConfigError) as refused, connected(1, ResourceSpec()):
        pass
    assert (
        str(refused.value) == "cannot reach or start a local Ray: The current node timed out during startup."
    )


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_at_which_no_ray_answers_is_one_line(
    monkeypatch: pytest.MonkeyPatch, form: str, listens: bool
) -> None:
    monkeypatch.setattr("curriculum_ray.distributed.connection._REACH_S", 0.5)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listens:
            listener.listen()
        address = form.format(listener.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        said = "something other than Ray listens there" if listens else "Connection refused"
        with pytest.raises(ConfigError, match=said) as refused, connected(1, ResourceSpec()):
            pass
    assert f"RAY_ADDRESS={address}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "address", [".x:6379", "10.0.0.1:12345678901234567890", "ray://head:port", "[::1:6379"]
)
def test_a_host_or_port_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("no Ray can be there"))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError) as refused, connected(1, ResourceSpec()):
        pass
    form = "RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got"
    assert str(refused.value) == f"{form} {address}"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("ray://head:10001", ("head", 10001)),
        ("[::1]:6379", ("::1", 6379)),
        ("auto", None),
        ("http://10.0.0.1:6379", None),
    ],
)
def test_where_the_cluster_is_dialled(address: str, found: tuple[str, int] | None) -> None:
    assert connection.endpoint(address) == found


def test_a_local_ray_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def init(**_: object) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    with connected(1, ResourceSpec()) as cluster:
        assert cluster.amount("CPU") == 4
    assert len(tried) == 2


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_a_ray_that_this_process_has_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    for name in ("init", "shutdown"):
        monkeypatch.setattr(f"ray.{name}", lambda **_: pytest.fail("a notebook's Ray would be lost"))
    with pytest.raises(ConfigError) as refused, connected(1, ResourceSpec()):
        pass
    said = "this process is connected to Ray already: end that first, by ray.shutdown()"
    assert str(refused.value) == said


def test_nodes_of_a_cluster_are_watched_after_a_local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster announces the loss of a node, also to a process that had a Ray of its own before."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    watches = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
    monkeypatch.delenv(watches, raising=False)
    for name in ("init", "shutdown", "cluster_resources"):
        monkeypatch.setattr(f"ray.{name}", lambda **_: {"CPU": 4.0})
    with connected(1, ResourceSpec()):
        assert os.environ[watches] == "0"
    assert watches not in os.environ


@pytest.mark.parametrize(
    ("free", "missing"),
    [
        ({"CPU": 2.0, "GPU": 2.0}, None),
        ({"CPU": 1.0, "GPU": 2.0}, "1 of 2 CPUs"),
        ({"CPU": 2.0}, "1 of 1 GPU"),
    ],
)
def test_what_others_use_is_missing(free: dict[str, float], missing: str | None) -> None:
    resources = ResourceSpec(num_workers=2, use_gpu=True, gpus_per_worker=0.5)
    assert resources.missing(free) == missing


def test_a_run_on_an_occupied_cluster_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr(connection, "_SETTLE_S", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert connection.waiting_line(ResourceSpec(num_workers=2)) is None, "nobody else uses a Ray of one's own"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert connection.waiting_line(ResourceSpec(num_workers=2)) == "waiting for 1 of 2 CPUs, which others use"
    assert connection.waiting_line(ResourceSpec()) is None
