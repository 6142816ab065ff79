"""The doctor: check that a cluster can run a study. A check has a time limit and, if it fails, a remedy."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusters.checks import (
    Check,
    disk_check,
    gpus_check,
    growth_check,
    memory_check,
    nodes_check,
    room_check,
    token_check,
    verdict,
    versions_agree,
)
from clusters.probe import Probe
from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.capacity import Capacity
from curriculum_ray.distributed.growth import growth
from curriculum_ray.distributed.head_memory import usable_bytes
from curriculum_ray.distributed.nodes import live_nodes, on_node
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.storage import unseen_by

__all__ = ["examine"]

_SKEW_SECONDS = 1.0
# One of Ray's head that changes nothing, and takes an empty message.
_A_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def examine(
    output: Path | str, resources: ResourceSpec, mlflow_uri: str | None, timeout_s: float
) -> list[Check]:
    """Run all checks within `timeout_s` seconds; a missing answer is a failed check.

    resources: of a run for which there is to be room. Raises ConfigError if there is no cluster.
    """
    checks: list[Check] = []
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            _examine(checks, output, resources, mlflow_uri, time.monotonic() + timeout_s)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if trouble:
        raise trouble[0]
    if thread.is_alive():
        after = f"after {checks[-1].name}" if checks else "while connecting"
        remedy = "see `ray status`; remove a node that does not answer, or raise --timeout"
        return [*checks, Check("time", "failed", f"{timeout_s:g} s were not enough; it hung {after}", remedy)]
    return checks


def _examine(
    checks: list[Check], output: Path | str, resources: ResourceSpec, mlflow_uri: str | None, until: float
) -> None:
    from curriculum_ray.distributed.connection import connected

    use_gpu = resources.use_gpu

    def left(most: float) -> float:
        return max(1.0, min(most, until - time.monotonic() - 1.0))

    # Checks need no CPU, so that busy clusters can be checked, and heads that nothing trains on.
    with connected(0, ResourceSpec()):
        import ray

        nodes = live_nodes()
        checks.append(nodes_check(len(ray.nodes()), len(nodes)))
        checks.append(_token(left(10)))
        there = Capacity.of(*(node["Resources"] for node in nodes))
        far = growth(there)
        checks.append(growth_check(far))
        checks.append(room_check(there, far, resources))
        checks.append(memory_check(far, len(nodes), resources, usable_bytes()))
        checks.append(_ports(nodes))
        remote: Any = ray.remote(num_cpus=0, max_restarts=0)(Probe)
        named = {f"{node['NodeManagerAddress']}/{node['NodeID'][:6]}": node for node in nodes}
        gpus = {name: count for name, node in named.items() if (count := node["Resources"].get("GPU", 0))}
        probes = {
            name: remote.options(
                scheduling_strategy=on_node(node["NodeID"]),
                num_gpus=gpus.get(name, 0) if use_gpu else 0,
            ).remote()
            for name, node in named.items()
        }
        facts, silent = _ask(probes, lambda probe: probe.facts.remote(), left(60))
        remedy = "install the project on every node (`make setup`), at the same version, and free its GPUs"
        checks.append(verdict("code", "importable on every node", silent, remedy))
        answering = {name: probe for name, probe in probes.items() if name in facts}
        checks.append(versions_agree(facts, gpus))
        checks.append(disk_check(facts))
        checks.append(_clocks(answering, left(20)))
        if use_gpu:
            answering = {name: probe for name, probe in answering.items() if name in gpus}
            check, answering = _gpus(answering, gpus_check(facts, gpus, far), left(60))
            checks.append(check)
            checks.append(_all_reduce(answering, "nccl", left(60)))
        else:
            checks.append(Check("gpus", "skipped", "not requested (--use-gpu)"))
            checks.append(_all_reduce(answering, "gloo", left(60)))
        checks.append(_storage(output, nodes, left(60)))
        checks.append(_mlflow(mlflow_uri, output))
        for probe in probes.values():
            ray.kill(probe)


def _ask(
    probes: dict[str, Any], call: Callable[[Any], Any], timeout_s: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Call all probes in parallel; return their answers and, for the others, the reasons."""
    import ray

    asked = {call(probe): name for name, probe in probes.items()}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s) if asked else ([], [])
    answers, silent = {}, {asked[reference]: f"no answer within {timeout_s:.0f} s" for reference in late}
    for reference in ready:
        try:
            answers[asked[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            silent[asked[reference]] = lines[-1] if lines else type(error).__name__
    return answers, silent


def _token(timeout_s: float) -> Check:
    import ray
    import ray._raylet

    raylet: Any = ray._raylet
    sends_token = raylet.get_authentication_mode() != raylet.AuthenticationMode.DISABLED
    return token_check(_admits_strangers(ray.get_runtime_context().gcs_address, timeout_s), sends_token)


def _admits_strangers(head: str, timeout_s: float) -> bool | None:
    """Whether the head answers a call without a token; None where it gives no answer that would tell."""
    import grpc

    with grpc.insecure_channel(head) as channel:
        ask = channel.unary_unary(_A_CALL)
        try:
            ask(b"", timeout=timeout_s)
        except grpc.RpcError as error:
            return False if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return True


def _ports(nodes: list[dict[str, Any]]) -> Check:
    problems = {}
    for node in nodes:
        place = (node["NodeManagerAddress"], node["NodeManagerPort"])
        try:
            socket.create_connection(place, timeout=5).close()
        except OSError as error:
            problems[f"{place[0]}:{place[1]}"] = f"not reachable from the driver: {error}"
    remedy = "open all ports between the nodes of the cluster, and none to the outside"
    return verdict("ports", "every node is reachable from the driver", problems, remedy)


def _clocks(probes: dict[str, Any], timeout_s: float) -> Check:
    import ray

    problems, most = {}, 0.0
    for name, probe in probes.items():
        before = time.time()
        try:
            there = ray.get(probe.now.remote(), timeout=timeout_s)
        except ray.exceptions.RayError as error:
            problems[name] = type(error).__name__
            continue
        after = time.time()
        # The measurement is accurate to half the round trip.
        skew = max(0.0, abs(there - (before + after) / 2) - (after - before) / 2)
        most = max(most, skew)
        if skew > _SKEW_SECONDS:
            problems[name] = f"its clock is off by {skew:.1f} s"
    return verdict(
        "clocks", f"within {most:.3f} s of the driver's", problems, "run chrony or ntpd on every node"
    )


def _gpus(probes: dict[str, Any], seen: Check, timeout_s: float) -> tuple[Check, dict[str, Any]]:
    """Whether the GPUs of these nodes multiply correctly, where torch has `seen` them; and the probes that answer."""
    if seen.state != "ok":
        return seen, probes
    answers, problems = _ask(probes, lambda probe: probe.matmul.remote(), timeout_s)
    problems |= {node: found[0] for node, found in answers.items() if found}
    remedy = "check nvidia-smi there, reset or replace the GPU, or remove the node"
    answering = {name: probe for name, probe in probes.items() if name in answers}
    return verdict("gpus", f"{seen.found}, and they multiply correctly", problems, remedy), answering


def _all_reduce(probes: dict[str, Any], backend: str, timeout_s: float) -> Check:
    """Whether these nodes can sum a tensor over all of them."""
    if len(probes) < 2:
        kind = " with GPUs" if backend == "nccl" else ""
        return Check("all_reduce", "skipped", f"fewer than two nodes{kind} answer")
    names = list(probes)
    first = {names[0]: probes[names[0]]}
    addresses, silent = _ask(first, lambda probe: probe.address.remote(), timeout_s)
    if silent:
        return verdict("all_reduce", "", silent, "see `ray status`; remove a node that does not answer")
    address = addresses[names[0]]
    ranks = {name: rank for rank, name in enumerate(names)}
    by_probe = {id(probe): ranks[name] for name, probe in probes.items()}
    limit = max(1.0, timeout_s - 2)
    answers, problems = _ask(
        probes,
        lambda probe: probe.all_reduce.remote(address, by_probe[id(probe)], len(names), backend, limit),
        timeout_s,
    )
    speed = min(answers.values(), default=0.0)
    remedy = "set GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to the network between the nodes; open its ports"
    return verdict("all_reduce", f"{backend} over {len(names)} nodes, {speed:,.0f} MB/s", problems, remedy)


def _storage(output: Path | str, nodes: list[dict[str, Any]], timeout_s: float) -> Check:
    if isinstance(output, str):
        return _bucket(Bucket(output), nodes, timeout_s)
    remedy = "mount a shared folder, e.g. NFS, at the same path on every node, and pass it as --output"
    try:
        output.mkdir(parents=True, exist_ok=True)
        problems = unseen_by(output.resolve(), nodes, timeout_s)
    except OSError as error:
        return Check("storage", "failed", f"{output} is not writable here: {error.strerror}", remedy)
    return verdict("storage", f"{output} is writable, and visible to {len(nodes)} nodes", problems, remedy)


def _bucket(bucket: Bucket, nodes: list[dict[str, Any]], timeout_s: float) -> Check:
    remedy = "give every node keys or a role that may read, write, list and delete there"
    try:
        bucket.check()
        problems = unseen_by(bucket, nodes, timeout_s)
    except (ConfigError, BucketError) as error:
        return Check("storage", "failed", str(error), remedy)
    return verdict("storage", f"{bucket.shown()} is reached by {len(nodes)} nodes", problems, remedy)


def _mlflow(uri: str | None, output: Path | str) -> Check:
    from tuning.tracking.store import open_store

    if not (uri or os.environ.get("MLFLOW_TRACKING_URI")):
        if isinstance(output, str):
            found = f"{presentable(output)} cannot hold the embedded store"
            return Check("mlflow", "failed", found, "name a server by --mlflow-uri")
        return Check("mlflow", "ok", f"the embedded store of {output}")
    try:
        store = open_store(uri, Path(output), create=False)
    except ConfigError as error:
        return Check(
            "mlflow", "failed", str(error), "start the server, or check --mlflow-uri and its password"
        )
    return Check("mlflow", "ok", store.shown)
