"""How many runs the nodes of a cluster hold, now or when it has grown, and what is refused because it never fits."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.capacity import (
    Capacity,
    NodeKind,
    check_resources,
    packs_of,
    room,
    room_line,
    within_share,
    workers_in,
)
from curriculum_ray.distributed.growth import Growth, as_capacity, waiting_for
from curriculum_ray.distributed.resources import ResourceSpec
from tests.distributed.autoscaling import LAUNCHERS, launcher
from tuning.cli.options import read_settings

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
def test_as_many_runs_as_the_cluster_has_room_for(
    resources: dict[str, Any], cluster: dict[str, float], runs: int
) -> None:
    spec, there = ResourceSpec(**resources), Capacity.of(cluster)
    assert room(spec, 100, there) == runs
    if runs > 1:
        check_resources(runs, spec, there)
    with pytest.raises(ConfigError, match="are needed"):
        check_resources(runs + 1, spec, there)


def test_a_share_of_a_gpu_without_gpus_is_refused() -> None:
    overrides, rule = ("gpus_per_worker=0.25",), r"use_gpu is off and gpus_per_worker 0\.25$"
    with pytest.raises(ConfigError, match=rf"^--set gpus_per_worker=0\.25: .*{rule}"):
        read_settings(ResourceSpec, None, overrides, {})
    assert read_settings(ResourceSpec, None, (*overrides, "use_gpu=true"), {}).gpus_per_worker == 0.25
    assert ResourceSpec.model_validate(ResourceSpec().model_dump()) == ResourceSpec()


def test_a_gpu_that_is_not_there_is_said_of_what_asked_for_it() -> None:
    with pytest.raises(ConfigError, match=r"^--on gpu needs a GPU, but this machine has none"):
        check_resources(1, ResourceSpec(use_gpu=True), Capacity.of({"CPU": 8.0}), gpus_by="--on gpu")


def test_few_runs_leave_room_for_learning() -> None:
    assert room(ResourceSpec(), 6, Capacity.of({"CPU": 64.0})) == 3
    assert room(ResourceSpec(), 1, Capacity.of({"CPU": 64.0})) == 1


@pytest.mark.parametrize(
    ("cpus", "workers", "slots"),
    [
        (1, (1, 4), 1),
        (3, (1, 4), 1),
        (4, (1, 4), 1),
        (6, (1, 4), 2),
        (8, (1, 4), 2),
        (9, (4, 8), 2),
        (7, (4, 8), 1),
    ],
)
def test_a_range_of_workers_is_shared_out_among_few_runs_with_none_left_over(
    cpus: int, workers: tuple[int, int], slots: int
) -> None:
    spec, there = ResourceSpec(num_workers=workers), Capacity.of({"CPU": float(cpus)})
    assert room(spec, 100, there) == slots
    check_resources(slots, spec, there)


@pytest.mark.parametrize(
    ("cpus", "workers", "share", "slots", "most"),
    [
        (2, 1, 0.5, 1, 1),
        (64, 1, 0.25, 16, 1),
        (64, 4, 0.3, 4, 4),
        (10, 1, 0.3, 3, 1),
        (12, (1, 4), 0.5, 2, 3),
        (4, (1, 4), 0.5, 1, 2),
        (2, (1, 4), 0.5, 1, 1),
    ],
)
def test_a_share_of_a_cluster_is_never_exceeded(
    cpus: int, workers: int | tuple[int, int], share: float, slots: int, most: int
) -> None:
    spec, there = ResourceSpec(num_workers=workers), Capacity.of({"CPU": float(cpus)})
    fit = workers_in(spec, there, share)
    assert room(spec, 100, there, share=share) == slots
    assert within_share(spec, slots, fit, share).workers[1] == most
    assert slots * most <= fit <= share * cpus


def test_a_share_too_small_for_a_trial_is_refused_and_so_are_two_ways_to_say_how_many() -> None:
    there = Capacity.of({"CPU": 8.0})
    with pytest.raises(ConfigError, match=r"of 2 workers, but 0.2 of the 8 .* is 1: give at least 0.25"):
        room(ResourceSpec(num_workers=2), 100, there, share=0.2)
    with pytest.raises(ConfigError, match=r"--concurrent 4 says .* and share 0.5 for what part"):
        packs_of(4, 1, 0.5)


def test_the_room_of_a_study_is_said_in_a_line() -> None:
    some = ResourceSpec(num_workers=(1, 4))
    assert (
        room_line(some, 2, 6)
        == "2 slots of 1 to 4 workers: 2 in all at least, 6 at most; there is room for 6"
    )
    one = "1 slot of 1 worker; there is room for 1, which is 0.5 of the cluster"
    assert room_line(ResourceSpec(), 1, 1, 0.5) == one


def test_packs_go_on_beside_each_other_where_there_is_room_and_use() -> None:
    assert packs_of(8, 4) == 2
    assert room(ResourceSpec(), 100, Capacity.of({"CPU": 2.0}), pack=4) == 2
    assert room(ResourceSpec(), 22, Capacity.of({"CPU": 8.0}), pack=4) == 2
    with pytest.raises(ConfigError, match="--concurrent must be a multiple of --pack 4, but got 6"):
        packs_of(6, 4)


def test_a_cluster_without_gpus_is_refused_in_one_line() -> None:
    with pytest.raises(
        ConfigError, match="--use-gpu needs a GPU, but this machine has none that torch can use"
    ):
        check_resources(1, ResourceSpec(use_gpu=True), Capacity.of({"CPU": 8.0}))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_shipped_launcher_grows_from_nothing_to_eight_nodes(name: str) -> None:
    most = as_capacity(launcher(name))
    assert most is not None
    assert most.grows
    assert (most.amount("CPU"), most.amount("GPU")) == (64, 8)
    of_a_gpu = ResourceSpec(use_gpu=True, num_workers=4)
    assert room(of_a_gpu, 100, most) == 2
    check_resources(2, of_a_gpu, most)
    with pytest.raises(
        ConfigError, match=r"12 GPUs are needed .* grows to 8 at most: .* raise .* max_workers"
    ):
        check_resources(3, of_a_gpu, most)


def test_a_worker_lies_on_one_node() -> None:
    two = Capacity.of({"CPU": 8.0}, {"CPU": 8.0})
    assert two.workers({"CPU": 3.0}) == 4
    assert two.workers({"CPU": 9.0}) == 0
    with pytest.raises(ConfigError, match=r"1 workers of 9 CPUs are needed, each on one node, .* hold 0"):
        check_resources(1, ResourceSpec(cpus_per_worker=9), two)


def test_of_several_kinds_of_nodes_the_roomiest_are_counted_first() -> None:
    small, large = NodeKind({"CPU": 2.0}, 5), NodeKind({"CPU": 16.0, "GPU": 2.0}, 2)
    most = Capacity(({"CPU": 1.0},), (small, large), most=4)
    assert most.workers({"CPU": 2.0}) == 2 * 8 + 2 * 1
    assert most.amount("GPU") == 4


@pytest.mark.parametrize(
    ("name", "settings", "grows"),
    [
        ("a type without resources", {"gpu": {"max_workers": 2}}, None),
        ("a head alone", {"head": {"resources": {"CPU": 4}}}, False),
        ("no limit of its own", {"cpu": {"resources": {"CPU": 4}}}, True),
    ],
)
def test_what_an_autoscaler_does_not_say_is_unknown(name: str, settings: Any, grows: bool | None) -> None:
    found = as_capacity({"head_node_type": "head", "max_workers": 3, "available_node_types": settings})
    assert (None if found is None else found.grows) is grows, name
    if grows and found is not None:
        assert found.workers({"CPU": 2.0}) == 6


def test_the_line_says_for_what_how_far_and_how_long() -> None:
    resources = ResourceSpec(num_workers=2, use_gpu=True)
    most = Growth(as_capacity(launcher("aws")))
    assert waiting_for(resources, most, 0.0) == (
        "waiting for the cluster to grow to 2 workers of 1 CPU, 1 GPU (it can hold 8)"
    )
    line = waiting_for(resources, Growth(None, "Kubernetes does not tell: HTTPError"), 90.0)
    assert line.endswith("(how far it can is unknown: Kubernetes does not tell: HTTPError), for 90 s so far")


def test_a_type_of_gpu_must_be_one_that_the_cluster_names() -> None:
    wanted = ResourceSpec(use_gpu=True, accelerator_type="A100")
    gpu = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:T4": 1.0}
    both = Capacity.of(gpu, {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0})
    assert room(wanted, 100, both) == 2
    assert room(ResourceSpec(use_gpu=True), 100, both) == 4
    with pytest.raises(ConfigError, match=r"names T4, but got A100: choose one of these"):
        check_resources(1, wanted, Capacity.of(gpu))
    growing = Capacity((), (NodeKind({"CPU": 8.0, "GPU": 1.0}, 4),), most=4)
    with pytest.raises(
        ConfigError, match=r"names none, but got A100: name it .* as accelerator_type:A100: 1"
    ):
        check_resources(1, wanted, growing)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"accelerator_type": "A100"}, "but use_gpu is off"),
        ({"use_gpu": True, "accelerator_type": "NVIDIA_A100"}, r"did you mean A100\?"),
        ({"use_gpu": True, "accelerator_type": "quantum"}, r"known: A100, .*V100\)"),
    ],
)
def test_an_accelerator_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ResourceSpec.model_validate(settings)
