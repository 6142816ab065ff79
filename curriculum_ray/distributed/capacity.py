"""What the nodes of a cluster hold: how many workers fit, and what is refused because it never will."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.container import cpu_quota
from curriculum_ray.distributed.resources import ACCELERATOR, ResourceSpec
from curriculum_ray.words import number_of, there_are

__all__ = [
    "Capacity",
    "NodeKind",
    "available_cpus",
    "check_resources",
    "packs_of",
    "room",
    "room_line",
    "share_of",
    "slots_in",
    "within_share",
    "workers_in",
]


@dataclass(frozen=True)
class NodeKind:
    """A kind of node that an autoscaler may start."""

    resources: Mapping[str, float]
    """Ray's, of each node, e.g. {"CPU": 8.0, "GPU": 1.0}."""
    most: int
    """How many of them there may be at a time."""


@dataclass(frozen=True)
class Capacity:
    """The nodes of a cluster: those that are there, and those that an autoscaler may add."""

    nodes: tuple[Mapping[str, float], ...] = ()
    """Ray's resources of each node that is there to stay."""
    kinds: tuple[NodeKind, ...] = ()
    """Those that come and go."""
    most: int = 0
    """How many nodes of all `kinds` there may be at a time."""

    @classmethod
    def of(cls, *nodes: Mapping[str, float]) -> Capacity:
        """Of nodes that are there."""
        return cls(tuple(nodes))

    @property
    def grows(self) -> bool:
        """Whether an autoscaler may add nodes."""
        return bool(self.most and self.kinds)

    def workers(self, needs: Mapping[str, float]) -> int:
        """How many workers fit, each on one node; `needs` are Ray's resources of one worker."""
        there = sum(_workers(needs, node) for node in self.nodes)
        left, added = self.most, 0
        for kind in sorted(self.kinds, key=lambda kind: _workers(needs, kind.resources), reverse=True):
            taken = min(left, kind.most)
            left -= taken
            added += taken * _workers(needs, kind.resources)
        return there + added

    def amount(self, resource: str) -> float:
        """The most that the nodes have of one resource, e.g. of "GPU"."""
        left, found = self.most, sum(node.get(resource, 0.0) for node in self.nodes)
        for kind in sorted(self.kinds, key=lambda kind: kind.resources.get(resource, 0.0), reverse=True):
            taken = min(left, kind.most)
            left -= taken
            found += taken * kind.resources.get(resource, 0.0)
        return found

    def accelerators(self) -> list[str]:
        """The types of accelerator that its nodes name, sorted."""
        nodes = [*self.nodes, *(kind.resources for kind in self.kinds)]
        named = {name for node in nodes for name in node if name.startswith(ACCELERATOR)}
        return sorted(name.removeprefix(ACCELERATOR) for name in named)


def available_cpus() -> int:
    """Number of CPUs that this process may use: those of its affinity, at most the quota of its container."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return there if quota is None else min(there, max(1, int(quota)))


def check_resources(
    runs: int, resources: ResourceSpec, cluster: Capacity | None = None, gpus_by: str = "--use-gpu"
) -> None:
    """Refuse, in one line, `runs` runs at a time that `cluster` can never hold.

    Without `cluster` it is this machine, whose type of accelerator only Ray finds out. gpus_by: what asked for GPUs.
    """
    import torch

    needs = resources.per_worker
    if cluster is None:
        if os.environ.get("RAY_ADDRESS"):
            return
        gpus = torch.cuda.device_count() if resources.use_gpu else 0
        cluster = Capacity.of({"CPU": float(available_cpus()), "GPU": float(gpus)})
        needs = {kind: each for kind, each in needs.items() if not kind.startswith(ACCELERATOR)}
    workers = resources.workers[0]
    needed = runs * workers
    share = f"{runs} at a time x " if runs > 1 else ""
    remedy = f"lower --num-workers{' or --concurrent' if runs > 1 else ''}"
    remedy += ", or raise the cluster's max_workers" if cluster.grows else ""
    for kind, each in needs.items():
        amount = cluster.amount(kind)
        if kind.startswith(ACCELERATOR) and not amount:
            raise ConfigError(_without_accelerator(kind.removeprefix(ACCELERATOR), cluster))
        if kind == "GPU" and not amount:
            where = "the cluster" if os.environ.get("RAY_ADDRESS") else "this machine"
            raise ConfigError(f"{gpus_by} needs a GPU, but {where} has none that torch can use")
        if amount > needed * each - 1e-6 or cluster.workers({kind: each}) >= needed:
            continue
        there = f"the cluster grows to {amount:g} at most" if cluster.grows else there_are(amount)
        raise ConfigError(
            f"{needed * each:g} {kind}s are needed ({share}{workers} workers x {each:g}), but {there}: {remedy}"
        )
    if (fit := cluster.workers(needs)) < needed:
        raise ConfigError(
            f"{needed} workers of {resources.in_words()} are needed, each on one node, but the nodes hold {fit}: "
            f"{remedy}"
        )


def _without_accelerator(name: str, cluster: Capacity) -> str:
    known = ", ".join(cluster.accelerators()) or "none"
    how = (
        f"name it in the resources of a node type, as {ACCELERATOR}{name}: 1, so that the cluster grows for it"
        if cluster.grows
        else "choose one of these, or leave it out"
    )
    return f"resources.accelerator_type must be of a GPU of the cluster, which names {known}, but got {name}: {how}"


def packs_of(concurrent: int, pack: int, share: float = 1.0) -> int:
    """The number of packs of `pack` runs in `concurrent` runs; ConfigError where they are not whole packs.

    share: of a cluster, from which the number would follow, too: below 1 it is refused.
    """
    if share < 1:
        raise ConfigError(
            f"--concurrent {concurrent} says how many trials run at a time, and share {share:g} for what part of the "
            "cluster: give one of them"
        )
    if concurrent % pack:
        raise ConfigError(f"--concurrent must be a multiple of --pack {pack}, but got {concurrent}")
    return concurrent // pack


def room(resources: ResourceSpec, runs: int, cluster: Capacity, pack: int = 1, share: float = 1.0) -> int:
    """How many packs of `pack` runs `share` of `cluster` can hold at a time: at most half of all `runs`, and at least
    one pack.

    ConfigError where so small a share does not hold a run.
    """
    return max(1, min(slots_in(workers_in(resources, cluster, share), resources), runs // 2 // pack))


def workers_in(resources: ResourceSpec, cluster: Capacity, share: float = 1.0) -> int:
    """How many workers fit into `share` of `cluster`; ConfigError where one below 1 does not hold a run."""
    return share_of(cluster.workers(resources.per_worker), resources, share)


def share_of(there: int, resources: ResourceSpec, share: float) -> int:
    """How many of the workers that a cluster can hold are `share` of it; ConfigError as in `workers_in`."""
    workers, (least, _) = int(share * there + 1e-6), resources.workers
    if share < 1 and workers < least:
        raise ConfigError(
            f"share must hold a trial of {number_of(least, 'worker')}, but {share:g} of the {there} that "
            f"the cluster can hold is {workers}: give at least {least / max(there, least):.3g}"
        )
    return workers


def slots_in(workers: int, resources: ResourceSpec) -> int:
    """How many runs share `workers` workers, at least 1; with a range, no worker is left over if possible."""
    least, most = resources.workers
    return max(1, min(workers // least, -(-workers // most)))


def within_share(resources: ResourceSpec, slots: int, workers: int, share: float) -> ResourceSpec:
    """The resources of a run where `slots` runs at a time may have no more than `workers`, which are `share` of all."""
    least, most = resources.workers
    if share == 1 or least == most:
        return resources
    return resources.with_most(max(least, min(most, workers // slots)))


def room_line(resources: ResourceSpec, slots: int, workers: int, share: float = 1.0) -> str:
    """The room of a study: "2 slots of 1 to 4 workers: 2 in all at least, 8 at most; there is room for 8".

    workers: those that fit into `share` of the cluster.
    """
    least, most = resources.workers
    each = f"{least}" if least == most else f"{least} to {most}"
    line = f"{number_of(slots, 'slot')} of {number_of(each, 'worker')}"
    if least < most:
        line += f": {slots * least} in all at least, {max(slots * least, min(workers, slots * most))} at most"
    part = "" if share == 1 else f", which is {share:g} of the cluster"
    return f"{line}; there is room for {workers}{part}"


def _workers(needs: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many workers fit on a node; a share of a GPU lies on one GPU: two of 0.4 fit on each."""

    def fit(kind: str, each: float) -> int:
        there = node.get(kind, 0.0)
        if kind == "GPU" and each < 1:
            whole = int(there + 1e-6)
            return whole * int(1 / each + 1e-6) + int(max(0.0, there - whole) / each + 1e-6)
        return int(there / each + 1e-6)

    return min(fit(kind, each) for kind, each in needs.items())
