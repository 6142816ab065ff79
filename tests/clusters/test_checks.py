"""What the doctor makes of a cluster whose head has no GPU, as those of the launchers."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from clusters import doctor
from clusters.checks import Check, disk_check, gpus_check, token_check, versions_agree
from curriculum_ray.distributed.capacity import Capacity, NodeKind
from curriculum_ray.distributed.growth import Growth
from curriculum_ray.distributed.resources import ResourceSpec

HEAD = {
    **{"python": "3.11.2", "ray": "2.60.0", "torch": "2.15.0", "cuda": "13.2", "driver": None, "gpus": 0},
    **{"folder": "/tmp/ray", "free_bytes": 100 * 2**30},
}
WORKER = {**HEAD, "driver": "580.82.07", "gpus": 1}
FACTS = {"head": HEAD, "a": WORKER, "b": WORKER}
GPUS = {"a": 1.0, "b": 1.0}
# As of clusters/aws.yaml.
GROWS = Growth(Capacity(({"CPU": 0.0},), (NodeKind({"CPU": 8.0, "GPU": 1.0}, 8),), most=8))
STAYS = Growth(Capacity.of({"CPU": 8.0}))


def test_the_drivers_of_nodes_with_gpus_are_compared() -> None:
    check = versions_agree(FACTS, GPUS)
    assert check.state == "ok"
    assert check.found == "python 3.11.2, ray 2.60.0, torch 2.15.0, cuda 13.2, driver 580.82.07"
    older = versions_agree({**FACTS, "b": {**WORKER, "driver": "570.1"}}, GPUS)
    assert (older.state, older.found) == ("failed", "driver: 570.1 and 580.82.07")
    without = versions_agree({**FACTS, "b": {**WORKER, "driver": None}}, GPUS)
    assert (without.state, without.found) == ("failed", "driver: 580.82.07 and None")


def test_gpus_that_come_when_asked_for_are_no_failure() -> None:
    seen = gpus_check(FACTS, GPUS, STAYS)
    assert (seen.state, seen.found) == ("ok", "torch sees all 2")
    there = {"head": HEAD}
    for far in (GROWS, Growth(None, "its head is not known")):
        come = gpus_check(there, {}, far)
        assert (come.state, come.found) == (
            "skipped",
            "none yet: nodes with GPUs come when a study asks for them",
        )
    for far in (STAYS, Growth(Capacity((), (NodeKind({"CPU": 8.0}, 8),), most=8))):
        never = gpus_check(there, {}, far)
        assert (never.state, never.found) == ("failed", "no node has a GPU")


def test_a_gpu_that_torch_does_not_see_is_a_failure_though_others_are_seen() -> None:
    check = gpus_check({**FACTS, "b": {**WORKER, "gpus": 0}}, GPUS, GROWS)
    assert (check.state, check.found) == ("failed", "b: torch sees 0 of 1 GPUs")
    silent = gpus_check({"head": HEAD, "a": WORKER}, GPUS, GROWS)
    assert (silent.state, silent.found) == ("failed", "b: no answer")


def test_a_full_disk_is_named_by_the_folder_that_ray_writes_to() -> None:
    full = disk_check({**FACTS, "a": {**WORKER, "folder": "/scratch/ray", "free_bytes": 2**30}})
    assert (full.state, full.found) == ("failed", "a: 1.0 GiB free in /scratch/ray")
    assert "--temp-dir" in full.remedy


@pytest.mark.parametrize(
    ("admits", "sends", "state"),
    [
        *((False, sends, "ok") for sends in (True, False)),
        *((True, sends, "failed") for sends in (True, False)),
        *((None, True, "skipped"), (None, False, "failed")),
    ],
)
def test_a_cluster_is_closed_only_if_it_refuses_a_call_without_the_token(
    admits: bool | None, sends: bool, state: str
) -> None:
    assert token_check(admits, sends).state == state


class _Method:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def remote(self, *arguments: Any) -> Any:
        return self._answer(*arguments)


class _Probe:
    """A probe of a node, which answers at once; `nccl` collects the nodes that took part in an all-reduce by it."""

    def __init__(self, name: str, facts: dict[str, Any], nccl: list[str]) -> None:
        def all_reduce(address: str, rank: int, world: int, backend: str, timeout_s: float) -> float:
            assert backend == "nccl"
            nccl.append(name)
            return 1000.0

        self.facts = _Method(lambda: facts)
        self.now = _Method(time.time)
        self.matmul = _Method(lambda: [])
        self.address = _Method(lambda: "tcp://127.0.0.1:1")
        self.all_reduce = _Method(all_reduce)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_sound_cluster_with_a_head_without_gpu_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int
) -> None:
    import ray

    facts = [HEAD, *[WORKER] * workers]
    resources = [{"CPU": 0.0}, *[{"CPU": 8.0, "GPU": 1.0}] * workers]
    nodes = [
        {"NodeID": f"{index:06}", "NodeManagerAddress": "10.0.0.1", "Resources": each}
        for index, each in enumerate(resources)
    ]
    nccl: list[str] = []
    started = iter(_Probe(f"{index:06}", fact, nccl) for index, fact in enumerate(facts))

    class Remote:
        def options(self, **_: Any) -> _Method:
            return _Method(lambda: next(started))

    monkeypatch.setattr("curriculum_ray.distributed.connection.connected", lambda *_: nullcontext())
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda kind: Remote())
    monkeypatch.setattr(ray, "get", lambda answer, timeout: answer)
    monkeypatch.setattr(ray, "kill", lambda probe: None)
    monkeypatch.setattr(doctor, "live_nodes", lambda: nodes)
    monkeypatch.setattr(doctor, "on_node", lambda node: node)
    monkeypatch.setattr(doctor, "growth", lambda there: GROWS)
    monkeypatch.setattr(doctor, "unseen_by", lambda *_: {})
    monkeypatch.setattr(doctor, "_ports", lambda _: Check("ports", "ok", "stand-in"))
    monkeypatch.setattr(doctor, "_token", lambda _: Check("token", "ok", "stand-in"))
    monkeypatch.setattr(
        doctor, "_ask", lambda probes, call, _: ({name: call(probe) for name, probe in probes.items()}, {})
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = doctor.examine(tmp_path / "runs", ResourceSpec(use_gpu=True), None, 60.0)
    assert [check for check in checks if check.state == "failed"] == []
    states = {check.name: check.state for check in checks}
    assert states["gpus"] == ("ok" if workers else "skipped")
    assert states["all_reduce"] == ("ok" if workers > 1 else "skipped")
    assert nccl == ([f"{index:06}" for index in (1, 2)] if workers > 1 else [])
