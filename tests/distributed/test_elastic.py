"""How many workers a run with a range of them has: the fewest of all runs first, then what is free."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import _AutoscalingCoordinatorActor
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision
from ray.train.v2.api.config import ScalingConfig

from curriculum_ray.distributed import elastic
from curriculum_ray.distributed.elastic import FairScaling, workers_of


def _remote(call: Any) -> Any:
    return SimpleNamespace(remote=call)


class Cluster:
    """Ray's own coordinator in this process, with nodes of so many CPUs, and a clock of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *cpus: float) -> None:
        self.cpus, self.now = list(cpus), 0.0
        self.actor = _AutoscalingCoordinatorActor(
            get_current_time=lambda: self.now,
            send_resources_request=lambda *_, **__: None,
            get_cluster_nodes=lambda: [
                {"NodeID": str(place), "Alive": count > 0, "Resources": {"CPU": count}}
                for place, count in enumerate(self.cpus)
            ],
        )
        names = ("request_resources", "cancel_request", "get_reserved_resources")
        self.handle = SimpleNamespace(**{name: _remote(getattr(self.actor, name)) for name in names})
        self.resized: list[int] = []
        self.board: Any = SimpleNamespace(
            _actor_id=SimpleNamespace(hex=lambda: "board"), note_resize=_remote(self.resized.append)
        )
        monkeypatch.setattr("ray.get", lambda value, timeout=None: value)
        monkeypatch.setattr(elastic, "_PAUSE_S", 0.0)
        policies = "ray.train.v2._internal.execution.scaling_policy"
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr(f"{policies}.elastic.time_monotonic", lambda: self.now)
        coordinator = "autoscaling_coordinator_client.get_or_create_autoscaling_coordinator"
        monkeypatch.setattr(f"{policies}.{coordinator}", lambda: self.handle)

    def run(self, slot: int, least: int, most: int) -> FairScaling:
        """The policy of a slot whose controller has started."""
        config = ScalingConfig(num_workers=(least, most), resources_per_worker={"CPU": 1.0})
        policy = FairScaling(config, self.board, slot)
        policy.after_controller_start(None)
        self.now += 1
        return policy


def _workers(policy: FairScaling) -> int | None:
    decision = policy.make_decision_for_non_running_worker_group()
    return decision.num_workers if isinstance(decision, ResizeDecision) else None


def _running(cluster: Cluster, policy: FairScaling, workers: int, saved: bool = False) -> int | None:
    """The number of workers that a run of `workers` is to have instead, 100 s later."""
    cluster.now += 100
    state: Any = SimpleNamespace(start_time=0.0, num_workers=workers)
    report = SimpleNamespace(checkpoint="there" if saved else None)
    status: Any = SimpleNamespace(worker_statuses={0: SimpleNamespace(training_report=report)})
    decision = policy.make_decision_for_running_worker_group(state, status)
    assert isinstance(decision, NoopDecision | ResizeDecision)
    return decision.num_workers if isinstance(decision, ResizeDecision) else None


def test_the_fewest_of_all_come_before_more_of_anyones(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, 4.0, 4.0)
    runs = [cluster.run(slot, 1, 4) for slot in range(3)]
    assert [_workers(run) for run in runs] == [4, 3, 1]
    cluster.cpus = [4.0, 0.0]
    assert [_workers(run) for run in runs] == [2, 1, 1], "a node was lost"
    cluster.cpus = [2.0, 0.0]
    assert [_workers(run) for run in runs] == [1, 1, None], "the last waits for room"


def test_a_run_makes_room_for_one_that_comes_later_and_grows_when_it_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(monkeypatch, 4.0)
    first = cluster.run(0, 1, 4)
    assert _workers(first) == 4
    second = cluster.run(1, 2, 4)
    assert _running(cluster, first, 4, saved=True) == 2
    assert _workers(second) == 2
    second._cancel_resource_request()
    assert _running(cluster, first, 2, saved=True) == 4
    assert cluster.resized == [0, 0]


def test_workers_change_right_after_a_checkpoint_unless_none_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, 1.0, 0.0)
    run = cluster.run(0, 1, 2)
    assert _running(cluster, run, 1, saved=True) is None, "there is no more room"
    cluster.cpus = [1.0, 1.0]
    assert _running(cluster, run, 1) is None
    assert not cluster.resized
    assert _running(cluster, run, 1, saved=True) == 2
    found = [_running(cluster, run, 1) for _ in range(8)]
    assert found[:6] == [None] * 6
    assert 2 in found[6:], "ten minutes later"
    assert _running(cluster, run, 1) is None, "due again"
    cluster.cpus = [1.0, 0.0]
    assert _running(cluster, run, 1, saved=True) is None, "what was due is not any more"


def test_shares_of_a_gpu_are_counted_as_they_lie() -> None:
    tenth = {"GPU": 0.1}
    assert workers_of({"GPU": 0.1}, {"a": {"GPU": 3 * 0.1}, "b": {"GPU": 0.1}}) == 4
    assert workers_of({**tenth, "CPU": 1.0}, {"a": {"GPU": 1.0, "CPU": 2.0}}) == 2
