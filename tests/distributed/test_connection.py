"""How many runs a cluster has room for, and what is refused before anything is started."""

import socket

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed import connection
from curriculum_ray.distributed.connection import check_resources, connected, packs_of, room
from curriculum_ray.distributed.slots import ResourceSpec

GPU_RUN = {"use_gpu": True, "cpus_per_worker": 1}


@pytest.mark.parametrize(
    ("resources", "cluster", "runs"),
    [
        ({}, {"CPU": 2.0}, 2),
        ({"num_workers": 2, "cpus_per_worker": 0.5}, {"CPU": 3.0}, 3),
        ({"num_workers": 4}, {"CPU": 3.0}, 1),
        (GPU_RUN, {"CPU": 64.0, "GPU": 8.0}, 8),
        (GPU_RUN, {"CPU": 4.0, "GPU": 8.0}, 4),
        ({**GPU_RUN, "num_workers": 2}, {"CPU": 64.0, "GPU": 7.0}, 3),
        ({**GPU_RUN, "gpus_per_worker": 0.25}, {"CPU": 64.0, "GPU": 2.0}, 8),
        ({**GPU_RUN, "gpus_per_worker": 0.1}, {"CPU": 64.0, "GPU": 1.0}, 10),
        # Two shares of 0.4 fit on a GPU, and a fifth has none of two GPUs to itself.
        ({**GPU_RUN, "gpus_per_worker": 0.4}, {"CPU": 64.0, "GPU": 2.0}, 4),
    ],
)
def test_as_many_runs_as_the_cluster_has_room_for(resources, cluster, runs):
    spec = ResourceSpec(**resources)
    assert room(spec, 100, cluster) == runs
    if runs > 1:
        check_resources(runs, spec, cluster)
    with pytest.raises(ConfigError, match="are needed"):
        check_resources(runs + 1, spec, cluster)


def test_few_runs_leave_room_for_learning():
    assert room(ResourceSpec(), 6, {"CPU": 64.0}) == 3
    assert room(ResourceSpec(), 1, {"CPU": 64.0}) == 1


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
        said = "something else than Ray listens there" if listens else "Connection refused"
        with pytest.raises(ConfigError, match=said) as refused, connected(1, ResourceSpec()):
            pass
    assert f"RAY_ADDRESS={address}" in str(refused.value)
    assert "\n" not in str(refused.value)


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
        assert cluster == {"CPU": 4.0}
    assert len(tried) == 2


def test_packs_go_on_beside_each_other_where_there_is_room_and_use() -> None:
    assert packs_of(8, 4) == 2
    assert room(ResourceSpec(), 100, {"CPU": 2.0}, pack=4) == 2
    assert room(ResourceSpec(), 22, {"CPU": 8.0}, pack=4) == 2
    with pytest.raises(ConfigError, match="--concurrent must be a multiple of --pack 4, but got 6"):
        packs_of(6, 4)


def test_a_cluster_without_gpus_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"1 GPUs are needed \(1 workers x 1\), but 0 are there"):
        check_resources(1, ResourceSpec(use_gpu=True), {"CPU": 8.0})


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
