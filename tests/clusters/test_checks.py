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


class _Reference:
    """A reference to an answer, for `get`, which does without Ray; `silent` says how it fails to come."""

    def __init__(self, answer: Any, silent: str | None) -> None:
        self._answer, self.silent = answer, silent

    def get(self) -> Any:
        from ray.exceptions import ActorDiedError, GetTimeoutError

        if self.silent is not None:
            raise ActorDiedError() if self.silent == "crashed" else GetTimeoutError("nothing came")
        return self._answer


class _Method:
    def __init__(self, answer: Any, silent: str | None = None) -> None:
        self._answer, self._silent = answer, silent

    def remote(self, *arguments: Any) -> Any:
        return _Reference(None if self._silent else self._answer(*arguments), self._silent)


class _Probe:
    """A probe of a node; `nccl` collects the nodes that took part in an all-reduce by it.

    It answers at once or, from the method `until` on, does not as it is `silent`: hung or crashed.
    """

    def __init__(
        self, name: str, facts: dict[str, Any], nccl: list[str], silent: str | None = None, until: str = ""
    ) -> None:
        def all_reduce(address: str, rank: int, world: int, backend: str, timeout_s: float) -> float:
            assert (address, backend) == ("tcp://127.0.0.1:1", "nccl")
            nccl.append(name)
            return 1000.0

        answers = {
            **{"facts": lambda: facts, "now": time.time, "matmul": lambda: []},
            **{"address": lambda: "tcp://127.0.0.1:1", "all_reduce": all_reduce},
        }
        fails: str | None = None
        for method, answer in answers.items():
            fails = silent if method == until else fails
            setattr(self, method, _Method(answer, fails))


def _examined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts: list[dict[str, Any]], probes: list[_Probe]
) -> dict[str, Check]:
    """The checks, by name, of a cluster whose nodes have these facts and probes."""
    import ray

    nodes = [
        {
            "NodeID": f"{index:06}",
            "NodeManagerAddress": "10.0.0.1",
            "Resources": {"CPU": 8.0, "GPU": 1.0} if fact["gpus"] else {"CPU": 0.0},
        }
        for index, fact in enumerate(facts)
    ]
    started = iter(probes)

    class Remote:
        def options(self, **_: Any) -> Remote:
            return self

        def remote(self) -> _Probe:
            return next(started)

    def wait(asked: list[_Reference], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        late = [each for each in asked if each.silent == "hung"]
        return [each for each in asked if each not in late], late

    monkeypatch.setattr("curriculum_ray.distributed.connection.connected", lambda *_: nullcontext())
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda kind: Remote())
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda reference, timeout=None: reference.get())
    monkeypatch.setattr(ray, "kill", lambda probe: None)
    monkeypatch.setattr(doctor, "live_nodes", lambda: nodes)
    monkeypatch.setattr(doctor, "on_node", lambda node: node)
    monkeypatch.setattr(doctor, "growth", lambda there: GROWS)
    monkeypatch.setattr(doctor, "unseen_by", lambda *_: {})
    monkeypatch.setattr(doctor, "_ports", lambda _: Check("ports", "ok", "stand-in"))
    monkeypatch.setattr(doctor, "_token", lambda _: Check("token", "ok", "stand-in"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = doctor.examine(tmp_path / "runs", ResourceSpec(use_gpu=True), None, 60.0)
    return {check.name: check for check in checks}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_sound_cluster_with_a_head_without_gpu_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int
) -> None:
    nccl: list[str] = []
    facts = [HEAD, *[WORKER] * workers]
    probes = [_Probe(f"{index:06}", fact, nccl) for index, fact in enumerate(facts)]
    checks = _examined(monkeypatch, tmp_path, facts, probes)
    assert [check for check in checks.values() if check.state == "failed"] == []
    assert checks["gpus"].state == ("ok" if workers else "skipped")
    assert checks["all_reduce"].state == ("ok" if workers > 1 else "skipped")
    assert nccl == ([f"{index:06}" for index in (1, 2)] if workers > 1 else [])


@pytest.mark.parametrize("silent", ["hung", "crashed"])
@pytest.mark.parametrize("others", [1, 2])
def test_a_gpu_that_answers_nothing_is_named_and_left_out_of_the_all_reduce(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: str, others: int
) -> None:
    nccl: list[str] = []
    sound = [_Probe(name, WORKER, nccl) for name in "bc"[:others]]
    probes = [_Probe("a", WORKER, nccl, silent, "matmul"), *sound]
    checks = _examined(monkeypatch, tmp_path, [WORKER] * len(probes), probes)
    assert [check.name for check in checks.values() if check.state == "failed"] == ["gpus"]
    assert checks["gpus"].found.startswith("10.0.0.1/000000: ")
    together = checks["all_reduce"]
    if others == 1:
        assert (together.state, together.found) == ("skipped", "fewer than two nodes with GPUs answer")
    else:
        assert (together.state, together.found) == ("ok", "nccl over 2 nodes, 1,000 MB/s")
    assert nccl == (["b", "c"] if others == 2 else [])


@pytest.mark.parametrize("silent", ["hung", "crashed"])
def test_a_node_that_does_not_tell_its_address_fails_the_all_reduce_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: str
) -> None:
    nccl: list[str] = []
    probes = [_Probe("a", WORKER, nccl, silent, "address"), _Probe("b", WORKER, nccl)]
    checks = _examined(monkeypatch, tmp_path, [WORKER, WORKER], probes)
    assert [check.name for check in checks.values() if check.state == "failed"] == ["all_reduce"]
    assert checks["all_reduce"].found.startswith("10.0.0.1/000000: ")
    assert {"storage", "mlflow"} <= checks.keys()
    assert nccl == []
