"""What the doctor finds: a check has a result and, if it failed, a remedy. Judges facts, and asks nobody."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from curriculum_ray.distributed.capacity import Capacity, slots_in
from curriculum_ray.distributed.growth import Growth
from curriculum_ray.distributed.head_memory import driver_node_bytes, memory_remark
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import are_together
from curriculum_ray.words import number_of

__all__ = [
    "Check",
    "disk_check",
    "gpus_check",
    "growth_check",
    "memory_check",
    "nodes_check",
    "room_check",
    "token_check",
    "verdict",
    "versions_agree",
]

_FREE_BYTES = 5 * 2**30
_VERSIONS = ("python", "ray", "torch", "cuda", "driver")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    state: str
    """ok, failed or skipped."""
    found: str
    remedy: str = ""
    """What to do if it failed."""


def verdict(name: str, passed: str, problems: dict[str, str], remedy: str) -> Check:
    """Return ok, or failed with the first problem and their number."""
    if not problems:
        return Check(name, "ok", passed)
    node, reason = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Check(name, "failed", f"{node}: {reason}{more}", remedy)


def nodes_check(known: int, alive: int) -> Check:
    """How many nodes are alive, of all that the cluster has ever known."""
    lost = f"; {known - alive} earlier ones are gone" if known > alive else ""
    return Check("nodes", "ok", f"{alive} alive{lost}")


def token_check(admits_strangers: bool | None, sends_token: bool) -> Check:
    """Whether the cluster is closed to those without its token; None where its head did not tell."""
    if admits_strangers is False:
        return Check("token", "ok", "the cluster refuses a call without it")
    if admits_strangers is None and sends_token:
        return Check("token", "skipped", "this driver sends it; whether the cluster requires it is unknown")
    remedy = "set RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN_PATH on every node, and restart Ray"
    return Check("token", "failed", "anyone who can reach the cluster can run code on it", remedy)


def versions_agree(facts: dict[str, dict[str, Any]], with_gpus: Collection[str]) -> Check:
    """Check that versions agree on all nodes, and that of the NVIDIA driver on those `with_gpus`.

    facts: of each node by its name, from `Probe.facts`.
    """
    found = {
        key: sorted({str(fact[key]) for name, fact in facts.items() if key != "driver" or name in with_gpus})
        for key in _VERSIONS
    }
    problems = {key: " and ".join(versions) for key, versions in found.items() if len(versions) > 1}
    passed = ", ".join(
        f"{key} {versions[0]}" for key, versions in found.items() if versions not in ([], ["None"])
    )
    return verdict("versions", passed, problems, "install from constraints.txt on every node; one driver")


def growth_check(far: Growth) -> Check:
    """How far the cluster can grow; no failure, as a cluster that cannot is sound."""
    if far.most is None:
        return Check("growth", "skipped", f"unknown: {far.unknown}; a study asks for its room, and waits")
    if not far.most.grows:
        return Check("growth", "ok", "none: these nodes are all")
    amounts = {name: far.most.amount(name) for name in ("CPU", "GPU")}
    shown = ", ".join(f"{amount:g} {name}s" for name, amount in amounts.items() if amount)
    return Check("growth", "ok", f"to {far.most.most} further nodes: {shown} at most")


def room_check(there: Capacity, far: Growth, resources: ResourceSpec) -> Check:
    """How many workers and runs fit now and when the cluster has grown; failed where not one run ever will."""
    (least, most), needs = resources.workers, resources.per_worker
    now = there.workers(needs)
    fit = now if far.most is None else max(now, far.most.workers(needs))
    found = f"{now} workers of {resources.in_words()} now" + (f", {fit} at most" if fit > now else "")
    if fit < least and far.most is not None:
        remedy = "add nodes, raise max_workers of the cluster, or lower --num-workers"
        return Check("room", "failed", f"{found}, but a run needs {least}", remedy)
    if least < most:
        few = f"{fit // least} runs of {least} at a time"
        return Check("room", "ok", f"{found}: {few}, or {max(1, fit // most)} of {min(most, fit)}")
    return Check("room", "ok", f"{found}: {fit // least} runs of {least} at a time")


def memory_check(far: Growth, nodes: int, resources: ResourceSpec, usable: int) -> Check:
    """Whether this node, the driver's, has the memory for as many runs as the cluster can hold at a time.

    resources: of a run.
    """
    slots = 1 if far.most is None else slots_in(far.most.workers(resources.per_worker), resources)
    alone = nodes < 2 and not far.grows
    needed = driver_node_bytes(slots, alone, are_together(resources))
    have, at = f"{usable / 2**30:.1f} GiB here", f"at {number_of(slots, 'slot')}"
    if memory_remark(needed, usable) is None:
        return Check("memory", "ok", f"{have}, {needed / 2**30:.1f} needed beside the workers {at}")
    remedy = "give the head more memory, or run fewer trials at a time (--concurrent)"
    return Check("memory", "failed", f"{have}, but {needed / 2**30:.1f} needed {at}", remedy)


def gpus_check(facts: dict[str, dict[str, Any]], gpus: Mapping[str, float], far: Growth) -> Check:
    """Whether torch sees the GPUs of every node that has any; no failure where those nodes are still to come.

    facts: of each node by its name, from `Probe.facts`. gpus: how many of them Ray counts on nodes that have any.
    """
    remedy = "check nvidia-smi and torch.cuda.is_available() there; start Ray with --num-gpus"
    if not gpus and far.grows and (far.most is None or far.most.amount("GPU")):
        return Check("gpus", "skipped", "none yet: nodes with GPUs come when a study asks for them")
    if not gpus:
        return Check("gpus", "failed", "no node has a GPU", remedy)
    seen = {name: fact["gpus"] for name, fact in facts.items()}
    unseen = {
        name: f"torch sees {seen[name]} of {count:g} GPUs" if name in seen else "no answer"
        for name, count in gpus.items()
        if seen.get(name, 0) < count
    }
    return verdict("gpus", f"torch sees all {sum(gpus.values()):g}", unseen, remedy)


def disk_check(facts: dict[str, dict[str, Any]]) -> Check:
    """Whether every node has room on its disk; `facts` of each node, from `Probe.facts`."""
    low = {
        node: f"{fact['free_bytes'] / 2**30:.1f} GiB free in {fact['folder']}"
        for node, fact in facts.items()
        if fact["free_bytes"] < _FREE_BYTES
    }
    least = min((fact["free_bytes"] for fact in facts.values()), default=0) / 2**30
    remedy = "free 5 GiB there, or give Ray a --temp-dir on a larger disk"
    return verdict("disk", f"at least {least:.0f} GiB free", low, remedy)
